"""The contender `twinspire/sent`: what a server answers that is sent events as they happen (`POST
/v1/events`). It has the versions of served.py, asked in the order of time.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.quality import served
from benchmarks.quality.prepare import Fitted, Prepared
from benchmarks.quality.splits import Case
from serving.version.event_buffer import EventBuffer, Events
from serving.version.live_updates import VersionUpdater
from serving.version.loaded_version import Version
from twinspire_core.config.source_registry import POPULAR

NAME = "twinspire/sent"
MINUTES = 5
"""Between two updates: nobody's list knows the events of his own five minutes, though servers update each
second.
"""
_MOST = 10_000_000


def takes_part(prepared: Prepared) -> bool:
    """Whether it is anything else than `twinspire/served` on a log."""
    asked_as_of_events = any(not case.frozen for case in prepared.split.cases)
    return asked_as_of_events and POPULAR in prepared.pipeline.sources.use


def fit(prepared: Prepared, settings: Mapping[str, Any], seed: int, work: Path) -> Fitted:
    """Asks what `served.fit` asks, with the events of the day up to some minutes before each query."""
    chain = served.chain_of(prepared.split, settings, seed, work)
    ranked: dict[str, np.ndarray] = {}
    unseen: dict[str, np.ndarray] = {}
    for case in prepared.split.cases:
        asked = list(served.requests(prepared, case))
        now = datetime.combine(case.day or prepared.split.last, time(12), chain.p.zone)
        for lists, exclude_seen in ((ranked, False), (unseen, True)):
            # Opened again: what one was sent, the other is sent again.
            version = chain.live_after(prepared.split.last)
            found = np.full((len(asked), served.LENGTH), -1, np.int64)
            for _, queries in in_time(version, prepared, case):
                some = [asked[query] for query in queries]
                answer = served.ask(version, some, now, None, exclude_seen=exclude_seen)
                found[queries] = answer
            lists[case.name] = served.positions(version, found, prepared.corpus()["_item"])
    return Fitted(ranked, chain.cpu(prepared.split.last), unseen=unseen)


def in_time(
    version: Version, prepared: Prepared, case: Case
) -> Iterator[tuple[Version, np.ndarray]]:
    """Rows of queries, those of some minutes together; and the version that has been sent what happened
    before these minutes.
    """
    moment = prepared.queries(case)["_moment"].cast(pl.Int64).to_numpy()
    if case.frozen:
        yield version, np.arange(len(moment))
        return
    sent = prepared.asked().sort("_time")
    times = sent["_time"].cast(pl.Int64).to_numpy()
    items = sent["_item"].cast(pl.String).to_list()
    users = np.unique(sent["_user"].to_numpy(), return_inverse=True)[1] + 1
    events = EventBuffer(_MOST)
    updater = VersionUpdater(version, events, int(moment.min()), new_items=0)
    length = MINUTES * 60_000_000
    begins = moment // length * length
    known = 0
    for begin in np.unique(begins):
        until = int(np.searchsorted(times, begin))
        events.add(Events(items[known:until], times[known:until], users[known:until]))
        known = until
        updater.update(int(begin))
        yield updater.version, np.flatnonzero(begins == begin)
