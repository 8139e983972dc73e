"""Puts towers to the test: queries against a catalogue, each encoded by the towers' own graphs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from model.data.selected_rows import SelectedRows
from model.evaluation.evaluate import (
    Measures,
    Ranked,
    compare,
    evaluate_baselines,
    evaluate_ranked,
    nearest,
    with_and_without,
)
from model.evaluation.evaluation_set import EvaluationSet, prepare
from model.evaluation.held_out_days import unseen_users_on
from model.evaluation.queries import (
    at_most_events,
    distinct_rows,
    holdout_rows,
    next_click_rows,
    progressive_rows,
)
from twinspire_core.config.tables.quality import EvaluationConfig
from twinspire_core.contracts import model_bundle
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.contracts.stage_context import StageContext

Towers = Mapping[str, Tower]
"""Both towers, by side."""

DAY, HELD, CLICKS, HELD_CLICKS = "day", "held out", "clicks", "held out clicks"
"""The exams of a day: next-day of all users and of those held out of training; next-click of
both.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerLists:
    """Queries with their answers.

    Attributes:
      queries: raw features, and what `model.evaluation.evaluation_set.prepare` reads.
      split: the same rows, in positions of the corpus.
    """

    queries: pa.Table
    split: EvaluationSet

    def baselines(self, ks: Sequence[int]) -> dict[str, Measures]:
        """Measures of the lists that need no model."""
        return evaluate_baselines(self.split, ks)

    def measures(self, ranked: Ranked, ks: Sequence[int]) -> Measures:
        """Measures of lists for these queries."""
        return evaluate_ranked(self.split, ranked, ks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What two towers make of exams, each distinct query once: many exams share some, and a
    basket's events are one.

    Attributes:
      distinct: [Q, D] float32, the queries.
      place: which of them each query of an exam is, [U] int64 by exam.
      items: [C, D] float32.
    """

    distinct: np.ndarray
    place: Mapping[str, np.ndarray]
    items: np.ndarray

    def queries(self, name: str) -> np.ndarray:
        """Those of an exam, [U, D] float32."""
        return self.distinct[self.place[name]]


def exam(
    queries: pa.Table, corpus: pa.Table, settings: EvaluationConfig | None = None
) -> TowerLists:
    """Prepares queries for a corpus; without settings there are no slices and no intervals."""
    bounds, resamples = (settings.slices, settings.resamples) if settings else ((), 0)
    return TowerLists(
        queries=queries, split=prepare(queries, corpus, bounds=bounds, resamples=resamples)
    )


def examine(
    towers: Towers, corpus: pa.Table, exams: Mapping[str, TowerLists], k: int
) -> dict[str, Ranked]:
    """What two towers list, from raw features, the corpus encoded once.

    Args:
      towers: by side.
      corpus: rows of `corpus/start/`, the one that the exams were prepared for.
      exams: what is asked, by name.
      k: length of the lists.

    Returns: lists, one set per exam.
    """
    return rank_all(encode(towers, corpus, exams), exams, k)


def encode(towers: Towers, corpus: pa.Table, exams: Mapping[str, TowerLists]) -> Encoded:
    """The vectors of the corpus and of all queries; arguments as those of `examine`."""
    read = {"_user", *towers["query"].inputs}
    parts = [
        exam.queries.select([c for c in exam.queries.column_names if c in read])
        for exam in exams.values()
    ]
    every = pa.concat_tables(parts, promote_options="default")
    first, place = distinct_rows(every)
    ends = np.cumsum([part.num_rows for part in parts])[:-1]
    return Encoded(
        distinct=towers["query"](every.take(first)),
        place=dict(zip(exams, np.split(place, ends), strict=True)),
        items=towers["item"](corpus),
    )


def rank_all(encoded: Encoded, exams: Mapping[str, TowerLists], k: int) -> dict[str, Ranked]:
    """Lists of k items, one set per exam, out of their vectors; each distinct query is searched for
    once.
    """
    most = np.zeros(len(encoded.distinct), np.int64)
    for name, place in encoded.place.items():
        np.maximum.at(most, place, exams[name].split.past.lengths)
    found = nearest(encoded.distinct, encoded.items, k, most)
    return {
        name: with_and_without(found[place], exams[name].split.past, k)
        for name, place in encoded.place.items()
    }


def exams_of(
    ctx: StageContext, evaluation: SelectedRows, examples: SelectedRows, corpus: pa.Table
) -> dict[str, TowerLists]:
    """What a version of the day is measured on, by name.

    Args:
      ctx: pipeline and day.
      evaluation: rows of `evaluation/`.
      examples: the day's rows of `examples/`.
      corpus: rows of `corpus/start/`.
    """
    p, limit = ctx.pipeline, ctx.pipeline.evaluation.max_users
    history = next(iter(p.kinds("history")), None)
    earlier = unseen_users_on(ctx)
    users, events = evaluation.narrow, examples.narrow
    held = holdout_rows(
        users, ctx.day, earlier=earlier, min_users=p.gate.min_users, max_users=limit
    )
    chosen = {DAY: progressive_rows(users, ctx.day, limit), HELD: held}
    asked = {name: evaluation.whole(rows) for name, rows in chosen.items()}
    clicks = {CLICKS: events, HELD_CLICKS: events.filter(events.column("_holdout"))}
    chosen = {name: at_most_events(rows, limit) for name, rows in clicks.items()}
    asked |= {name: next_click_rows(examples.whole(rows), history) for name, rows in chosen.items()}
    return {name: exam(rows, corpus, p.evaluation) for name, rows in asked.items()}


def metrics(
    exams: Mapping[str, TowerLists],
    before: Mapping[str, Ranked],
    after: Mapping[str, Ranked],
    others: Mapping[str, Mapping[str, Ranked]],
    ks: Sequence[int],
) -> dict[str, Any]:
    """What metrics.json tells of quality; twinspire_core/contracts/model_bundle.py says what the
    keys mean.

    Args:
      exams: from `exams_of`.
      before: the parent's lists by exam, none without a parent; what is behind the longest k does
        not count.
      after: this version's lists of those held out, likewise.
      others: further baselines by exam and name.
      ks: list lengths.
    """
    before, after = (
        {name: x.first(max(ks)) for name, x in ranked.items()} for ranked in (before, after)
    )

    def measures(name: str, ranked: Mapping[str, Ranked]) -> Measures | None:
        return exams[name].measures(ranked[name], ks) if name in ranked else None

    def judged(name: str) -> dict[str, Any]:
        split = exams[name].split
        return {
            "users": split.users,
            "days": split.days,
            "candidate": measures(name, after),
            "baseline": measures(name, before),
            "change": compare(split, after[name].kept, before[name].kept, ks) if before else None,
        }

    def without_model(name: str) -> dict[str, Measures]:
        more = {
            other: exams[name].measures(ranked, ks)
            for other, ranked in others.get(name, {}).items()
        }
        return {**exams[name].baselines(ks), **more}

    return {
        model_bundle.PROGRESSIVE: measures(DAY, before),
        model_bundle.BASELINES: without_model(DAY),
        model_bundle.HOLDOUT: {**judged(HELD), "baselines": without_model(HELD)},
        model_bundle.NEXT_CLICK: {
            model_bundle.PROGRESSIVE: measures(CLICKS, before),
            model_bundle.BASELINES: exams[CLICKS].baselines(ks),
            model_bundle.HOLDOUT: judged(HELD_CLICKS),
        },
    }


def load(folder: Path) -> Tower:
    """Loads a tower."""
    return Tower(tf.saved_model.load(str(folder)))


def load_both(attempt: Path) -> Towers:
    """Loads the towers of a train attempt from its local folder."""
    return {side: load(attempt / name) for side, name in model_bundle.TOWERS.items()}
