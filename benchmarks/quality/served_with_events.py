"""The contender `twinspire/sent`: a server that gets events as they happen (`POST /v1/events`). It has the
versions of served.py, and answers queries in the order of time.
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
"""Minutes between two updates. Real servers update every second; here a list does not know the events of its
own five minutes.
"""
_MOST = 10_000_000


def takes_part(prepared: Prepared) -> bool:
    """Whether it differs from `twinspire/served` on a log."""
    asked_as_of_events = any(not case.frozen for case in prepared.split.cases)
    return asked_as_of_events and POPULAR in prepared.pipeline.sources.use


def fit(prepared: Prepared, settings: Mapping[str, Any], seed: int, work: Path) -> Fitted:
    """Like `served.fit`, with the events of the day up to some minutes before each query."""
    chain = served.chain_of(prepared.split, settings, seed, work)
    ranked: dict[str, np.ndarray] = {}
    unseen: dict[str, np.ndarray] = {}
    for case in prepared.split.cases:
        asked = list(served.requests(prepared, case))
        now = datetime.combine(case.day or prepared.split.last, time(12), chain.p.zone)
        for lists, exclude_seen in ((ranked, False), (unseen, True)):
            # Opened again for each kind of list, because events change the version.
            version = chain.live_after(prepared.split.last)
            rows = np.full((len(asked), served.LENGTH), -1, np.int64)
            for _, queries in in_time(version, prepared, case):
                batch = [asked[query] for query in queries]
                answer = served.ask(version, batch, now, None, exclude_seen=exclude_seen)
                rows[queries] = answer
            lists[case.name] = served.positions(version, rows, prepared.corpus()["_item"])
    return Fitted(ranked, chain.cpu(prepared.split.last), unseen=unseen)


def in_time(
    version: Version, prepared: Prepared, case: Case
) -> Iterator[tuple[Version, np.ndarray]]:
    """Yields the rows of the queries of some minutes, and the version with the events before these minutes."""
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
