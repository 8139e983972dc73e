"""What do rules on lists cost, and what do they give?

    make demo; python -m benchmarks.list_rules pipelines/groceries.toml --json rules.json

Each version of a registry is asked for 50 items for each user who took something on the day after
its own and whom it knows, without rules and with each of several. Of the day's items the lists hold
a share, recall@50; of those that are new to their user too. `new` is the share of the lists' items
that are new, `explored` how many came by exploration, `hits` how many of these were taken that day;
`ms` is processor time per list, asked for 64 at a time. Differences to the lists without rules are
paired, and their 95% intervals take users as the unit.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.quality.command import machine, write_whole
from index_builder.registry.registry import Registry
from serving.answers.recommend import recommend
from serving.requests.query_rows import STORED_PAST
from serving.version.loaded_version import Version
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_names import EXPLORATION
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.metrics.bootstrap import intervals, resampled_means
from twinspire_core.metrics.ranking import by_user, contains
from twinspire_core.search.ragged import Ragged, positions
from twinspire_core.sources import personal_counts

K = 50
METRIC = f"recall@{K}"
BATCH = 64
RESAMPLES = 1000
NONE = "no rules"


@dataclass(frozen=True, kw_only=True)
class Day:
    """Users of one version, and what they took on the day after its own.

    Attributes:
      version: its id.
      users: U ids.
      taken: U lists of positions, -1 outside the corpus.
      known: U lists of positions that they had before.
    """

    version: str
    day: date
    users: list[str]
    taken: Ragged
    known: Ragged


def rules(cap: str | None) -> dict[str, ListsConfig]:
    """What is compared; `cap` is an attribute."""
    compared = {
        NONE: ListsConfig(),
        "new_share .1": ListsConfig(new_share=0.1),
        "new_share .3": ListsConfig(new_share=0.3),
        "exploration .02": ListsConfig(exploration=0.02),
    }
    if cap:
        compared |= {
            f"{cap} 5": ListsConfig(caps={cap: 5}),
            f"{cap} 20": ListsConfig(caps={cap: 20}),
        }
        compared["all"] = ListsConfig(new_share=0.3, exploration=0.02, caps={cap: 20})
    return compared


def read_day(p: Pipeline, version: Version) -> Day | None:
    """Who took what on the day after a version's; None without that day's events."""
    day = version.manifest.date + timedelta(days=1)
    folder = Path(p.source.events.format(date=day))
    if version.users is None or not folder.is_dir():
        return None
    taken = pl.read_parquet(folder / "**/*.parquet").select(
        user=pl.col(p.columns.user).cast(pl.String), item=pl.col(p.columns.item).cast(pl.String)
    )
    lists = taken.group_by("user").agg(pl.col("item").unique()).sort("user")
    stored, is_known = version.users.find(lists["user"].to_list())
    lists = lists.filter(pl.Series(is_known))
    stored = stored.filter(pa.array(is_known))
    items = version.items["_item"]
    had = [
        positions(stored[name], items)
        for name in (STORED_PAST, personal_counts.ITEMS)
        if name in stored.column_names
    ]
    row = np.concatenate([one.row for one in had])
    order = np.argsort(row, kind="stable")
    values = np.concatenate([one.values for one in had])[order]
    return Day(
        version=version.id,
        day=day,
        users=lists["user"].to_list(),
        taken=positions(lists["item"].to_arrow(), items),
        known=Ragged(values, row[order], len(lists)),
    )


def measure(version: Version, day: Day, lists: ListsConfig) -> dict[str, np.ndarray]:
    """Figures of each user's list, [U]."""
    ruled = version.pipeline.model_copy(update={"lists": lists})
    version.pipeline = ruled
    now = datetime.combine(day.day, datetime.min.time(), ruled.zone)
    rows: list[np.ndarray] = []
    explored: list[np.ndarray] = []
    seconds = time.process_time()
    for start in range(0, len(day.users), BATCH):
        asked = [{"user": user} for user in day.users[start : start + BATCH]]
        answer = recommend(version, asked, K, now=now)
        rows.append(answer.rows.astype(np.int64))
        place = answer.names.index(EXPLORATION) if EXPLORATION in answer.names else None
        none = np.zeros(answer.rows.shape, bool)
        came_so = none if place is None or answer.shares is None else answer.shares[:, :, place] > 0
        explored.append(came_so)
    seconds = time.process_time() - seconds
    listed = np.concatenate(rows)
    came_by_exploration = np.concatenate(explored)
    is_new = ~contains(day.known, listed) & (listed >= 0)
    was_new = ~contains_pairs(day.known, day.taken)
    new_taken = day.taken.where(was_new)
    hits = contains(day.taken, listed) & came_by_exploration
    return {
        METRIC: by_user(listed, day.taken, [K])[METRIC],
        "recall@10": by_user(listed, day.taken, [10])["recall@10"],
        f"{METRIC}, new": by_user(listed, new_taken, [K])[METRIC],
        "new": is_new.sum(axis=1) / np.maximum(1, (listed >= 0).sum(axis=1)),
        "items": (listed >= 0).sum(axis=1).astype(float),
        "explored": came_by_exploration.sum(axis=1).astype(float),
        "hits": hits.sum(axis=1).astype(float),
        "ms": np.full(len(listed), 1000 * seconds / len(listed)),
    }


def contains_pairs(lists: Ragged, pairs: Ragged) -> np.ndarray:
    """Whether each value of `pairs` is in the same list of `lists`, [M] bool; never for -1."""
    width = 1 + max(int(lists.values.max(initial=0)), int(pairs.values.max(initial=0)))
    inside = pairs.values >= 0
    known = lists.where(lists.values >= 0)
    found = np.isin(pairs.row * width + pairs.values, known.row * width + known.values)
    return np.asarray(found & inside)


def compare(p: Pipeline, compared: Mapping[str, ListsConfig]) -> list[dict[str, Any]]:
    """A row for each of the rules."""
    parts: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in compared}
    users: list[str] = []
    for status in sorted(Registry(p.registry.root, p.name).statuses(), key=lambda one: one.date):
        if not status.stored or status.status == "refused":
            continue
        version = Version.open(p, status.version)
        day = read_day(p, version)
        if day is None:
            continue
        users += day.users
        recommend(version, [{"user": user} for user in day.users[:BATCH]], K)
        for name, lists in compared.items():
            parts[name].append(measure(version, day, lists))
        print(day.day, len(day.users), "users, by", version.id, flush=True)
    _, user = np.unique(users, return_inverse=True)
    figures = {
        name: {key: np.concatenate([one[key] for one in of]) for key in of[0]}
        for name, of in parts.items()
    }
    more = {name: one[METRIC] - figures[NONE][METRIC] for name, one in figures.items()}
    spans = intervals(resampled_means(more, user, RESAMPLES))
    return [
        {
            "name": name,
            **{key: float(np.nanmean(values)) for key, values in one.items()},
            "explored": int(one["explored"].sum()),
            "hits": int(one["hits"].sum()),
            "more": float(np.nanmean(more[name])),
            "low": float(spans[name][0]),
            "high": float(spans[name][1]),
            "lists": len(user),
        }
        for name, one in figures.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    head = f"{'rules':18}{METRIC:>10}{'difference, 95%':>29}{'@10':>7}{'of new':>8}{'new':>7}"
    lines = [head + f"{'items':>7}{'explored':>10}{'hits':>6}{'ms':>7}"]
    for row in rows:
        span = f"{row['more']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        lines.append(
            f"{row['name']:18}{row[METRIC]:10.4f}{span:>29}{row['recall@10']:7.3f}"
            f"{row[f'{METRIC}, new']:8.4f}{row['new']:7.3f}{row['items']:7.1f}"
            f"{row['explored']:10}{row['hits']:6}{row['ms']:7.2f}"
        )
    lines.append(f"{rows[0]['lists']:,} lists")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pipeline", help="a pipeline file whose versions carry users")
    parser.add_argument("--cap", default="department", help="an attribute to cap")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    rows = compare(pipeline.load(options.pipeline), rules(options.cap or None))
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "lists": rows}, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
