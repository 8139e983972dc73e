"""Who takes part, and with which settings.

Settings of peers were chosen on earlier days by `python -m benchmarks.quality --tune`, which writes
settings.json; ours are those of the pipeline files, which `twinspire tune` searches on such days.
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
"""Contenders that only count, each event the less the older it is; their half-lives are chosen."""
TRANSFORMERS = ("sasrec", "hstu")
SERVED = (*served.SOURCES, served_with_events.NAME)
"""What a user of ours gets, and the two-tower of the same versions alone."""
_NAMES = (*SERVED, trees.NAME, *DECAYED, *LISTS, *peers.ON_LOG, "tfrs")
NAMES = tuple(name for name in _NAMES if name not in served.ON_DEMAND)
"""What matters most comes first: a run that is stopped has that."""
PEERS = tuple(name for name in NAMES if not name.startswith("twinspire"))
WITHOUT_SEEDS = ("vstan", "tifu_knn", *LISTS, *DECAYED)
"""Those whose result involves no chance: one run is enough."""
COSTLY = ("tfrs", *TRANSFORMERS)
"""Those that are trained once a week where a log's days are many, and asked with fresh histories."""
READ_THE_DAY = ("popular_decayed", "vstan", served_with_events.NAME)
"""Where queries are as of an event, these know what others did that day up to its moment, ours up to
some minutes before it; all others were made before the day.
"""
AS_OF_EVENTS = ("globo/last-click", "ml-100k/global-time")
"""Cases whose queries are as of an event."""
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
    """Settings that a contender's tuning starts from; none where it has none."""
    if name in (*LISTS, *SERVED, trees.NAME):
        return {}
    return search_space.start(name, split)


def chosen(name: str, split: str) -> Settings:
    """The settings of a contender: from settings.json, else what tuning starts from."""
    kept: Settings | None = all_chosen().get(split, {}).get(name, {}).get("settings")
    return kept or start(name, split)


def all_chosen() -> dict[str, Any]:
    """What settings.json says: by log and contender `settings`, what they `found` on the earlier days,
    and all `trials`: of how many days (`trial_days`), and why they `ended` (after 12, or `most_trials`,
    where it is not said). `chosen_before` holds the trials of settings that are not yet chosen again.
    """
    return json.loads(CHOSEN.read_text()) if CHOSEN.exists() else {}


def fit(name: str, prepared: Prepared, settings: Settings, seed: int, work: Path) -> Fitted:
    """Trains a contender and has it make its lists for all cases of the split.

    Args:
      name: one of `NAMES`.
      prepared: the split.
      settings: from `chosen`.
      seed: of all chance.
      work: holds the peers' environments.
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
    """Files whose change makes a contender's runs stale, below the repository."""
    return [f"benchmarks/quality/{file}" for file in _CODE.get(name, ("lists.py",))]


def resolved(name: str, prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """All that tells a contender's runs apart: a peer's settings, or our pipeline file with ours."""
    if name not in SERVED:
        return dict(settings)
    p = override(prepared.pipeline, settings)
    # Defaults aside: a key that is new in a release makes no other run.
    places = {"pipeline", "source", "registry"}
    return p.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=places)


def takes_part(name: str, prepared: Prepared) -> bool:
    """Whether a contender says something of a log.

    Nobody reads news basket after basket. On purchases transformers find a third of what purchase
    history does. Not every pipeline has a ranker.
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
