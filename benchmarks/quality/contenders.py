"""The contenders and their settings.

Settings of peers were chosen on earlier days by `python -m benchmarks.quality --tune`, which writes
settings.json. Ours are those of the pipeline files; `twinspire tune` searches them on such days.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.quality import lists, peers, search_space, served, served_with_events, trees
from benchmarks.quality.command import cpu_seconds
from benchmarks.quality.prepare import Fitted, Prepared, override

CHOSEN = Path(__file__).resolve().parent / "settings.json"
Settings = Mapping[str, Any]

LISTS = {
    "most_popular": lists.popular,
    "popular_lately": lists.popular_lately,
    "purchase_history": lists.purchase_history,
}
"""Contenders that need no training."""
DECAYED = {
    "popular_decayed": lists.popular_decayed,
    "personal_decayed": lists.personal_decayed,
}
"""Contenders that count events with a decay; their half-lives are chosen."""
TRANSFORMERS = ("sasrec", "hstu")
SERVED = (*served.SOURCES, served_with_events.NAME)
"""The served lists, and other lists of the same versions."""
_NAMES = (*SERVED, trees.NAME, *DECAYED, *LISTS, *peers.ON_LOG, "tfrs")
NAMES = tuple(name for name in _NAMES if name not in served.ON_DEMAND)
"""The most important contenders come first, so that a stopped run has them."""
PEERS = tuple(name for name in NAMES if not name.startswith("twinspire"))
WITHOUT_SEEDS = ("vstan", "tifu_knn", *LISTS, *DECAYED)
"""Contenders without randomness: one run is enough."""
COSTLY = ("tfrs", *TRANSFORMERS)
"""Contenders that are trained once a week on logs with many days. Histories are always fresh."""
READ_THE_DAY = ("popular_decayed", "vstan", served_with_events.NAME)
"""If queries are as of an event, these contenders know the events of that day before the query; ours knows
those up to some minutes before. All others were trained before the day.
"""
AS_OF_EVENTS = ("globo/last-click", "ml-100k/global-time")
"""Cases with queries as of an event."""
_CODE = {
    **dict.fromkeys(served.SOURCES, ("served.py",)),
    served_with_events.NAME: ("served.py", "served_with_events.py"),
    "tfrs": ("tfrs_peer.py", "arrays.py", "tower_inputs.py"),
    **{name: (f"{script}_peer.py", "arrays.py") for name, (script, _) in peers.ON_LOG.items()},
    trees.NAME: ("trees.py",),
    "vstan": ("session_peer.py", "arrays.py"),
    "tifu_knn": ("basket_peer.py", "session_peer.py", "arrays.py"),
}


def start(name: str, split: str) -> Settings:
    """The initial settings of a contender's tuning; empty if it has no settings."""
    if name in (*LISTS, *SERVED, trees.NAME):
        return {}
    return search_space.start(name, split)


def chosen(name: str, split: str) -> Settings:
    """The settings of a contender: from settings.json, else the initial settings of tuning."""
    kept: Settings | None = all_chosen().get(split, {}).get(name, {}).get("settings")
    return kept or start(name, split)


def all_chosen() -> dict[str, Any]:
    """The content of settings.json, by log and contender: `settings`; their recall on the earlier days
    (`found`); all `trials`; on how many days they ran (`trial_days`); and why the search `ended` (without an
    entry after 12, or `most_trials`). `chosen_before` has the trials of settings that were not chosen again.
    """
    return json.loads(CHOSEN.read_text()) if CHOSEN.exists() else {}


def fit(name: str, prepared: Prepared, settings: Settings, seed: int, work: Path) -> Fitted:
    """Trains a contender and makes its lists for all cases of the split.

    Args:
      name: one of `NAMES`.
      settings: from `chosen`.
      work: folder with the peers' environments.
    """
    if name in LISTS or name in DECAYED:
        begin = cpu_seconds()
        counted = LISTS.get(name) or partial(DECAYED[name], settings=settings)
        ranked = {case.name: counted(prepared, case) for case in prepared.split.cases}
        return Fitted(ranked, cpu_seconds() - begin)
    if name == trees.NAME:
        return trees.fit(prepared, seed, work)
    if name in peers.ON_LOG:
        return peers.fit_on_log(name, prepared, settings, seed, work)
    if name == served_with_events.NAME:
        return served_with_events.fit(prepared, settings, seed, work)
    if name in SERVED:
        return served.fit(name, prepared, settings, seed, work)
    return peers.fit_tfrs(prepared, settings, seed, work)


def code_of(name: str) -> list[str]:
    """Files in the repository whose change makes a contender's runs stale."""
    return [f"benchmarks/quality/{file}" for file in _CODE.get(name, ("lists.py",))]


def resolved(name: str, prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """The settings that identify a contender's runs: a peer's settings, or our pipeline file."""
    if name not in SERVED:
        return dict(settings)
    p = override(prepared.pipeline, settings)
    # Without defaults, so that a new key of a release does not make runs stale.
    places = {"pipeline", "source", "registry"}
    return p.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=places)


def takes_part(name: str, prepared: Prepared) -> bool:
    """Whether a contender takes part on a log.

    News have no baskets. On purchases, transformers have a third of the recall of the purchase history. Not
    every pipeline has a ranker.
    """
    log = prepared.split.name
    if name == "tifu_knn":
        return log != "globo"
    if name in TRANSFORMERS:
        return log not in trees.LOGS
    if name == trees.NAME:
        return log in trees.LOGS
    if name == served_with_events.NAME:
        return served_with_events.takes_part(prepared)
    if name == "twinspire/ranked":
        return prepared.pipeline.sources.several
    return True
