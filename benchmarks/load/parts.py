"""CPU milliseconds that a query takes, by part of the answer, in batches as large as a busy server's."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from serving.answers import recommend, retrieval
from serving.http import answer_bodies
from serving.http.bodies import BodyParser, read_object
from serving.http.hot_swap import warm
from serving.http.prometheus import Metrics
from serving.http.server_settings import Settings
from serving.requests.query_rows import Requests
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import load
from twinspire_core.ranking import ranker
from twinspire_core.sources.candidate_sources import CandidateSources

_BATCH = 32
_PLACES: list[tuple[str, Any, str]] = [
    ("read the body", BodyParser, "recommend"),
    ("rows of queries", Requests, "lay_out"),
    ("stored users", recommend, "complete"),
    ("query tower", Version, "encode"),
    ("two-tower search", retrieval, "search_without"),
    ("histories", recommend, "encode_queries"),
    ("sources' lists", CandidateSources, "retrieve"),
    ("pairs", ranker.Pairs, "of"),
    ("features", ranker.RankingFeatures, "values"),
    ("trees", ranker.Ranker, "score"),
    ("the best items", ranker.RankedCandidates, "best"),
    ("write the answer", answer_bodies, "dump"),
]
"""What is timed; a part that calls another one has its time without it."""


def parts(pipeline: Path, bodies: list[bytes]) -> dict[str, float]:
    """Milliseconds a query by part, `others`, and `candidates`, how many a query has in the median."""
    version = Version.open(load(pipeline))
    warm(version)
    requests = Requests(version.pipeline)
    parser = BodyParser(requests.model, Settings())
    metrics = Metrics()
    spent: dict[str, float] = {}
    candidates: list[int] = []
    with ExitStack() as stack:
        clock = _Clock(spent)
        for name, owner, attribute in _PLACES:
            stack.enter_context(clock.timing(name, owner, attribute, candidates))
        started = time.process_time()
        for begin in range(0, len(bodies), _BATCH):
            objects = (read_object(x, parser.most_objects) for x in bodies[begin : begin + _BATCH])
            batch = [parser.recommend(body) for body in objects]
            answer_bodies.answer_batch(version, requests, batch, metrics)
        whole = time.process_time() - started
    found = {name: 1000 * spent.get(name, 0.0) / len(bodies) for name, _, _ in _PLACES}
    others = 1000 * whole / len(bodies) - sum(found.values())
    return {**found, "others": others, "candidates": float(np.median(candidates or [0]))}


class _Clock:
    """Adds up the processor time of functions, each without the timed ones that it calls."""

    def __init__(self, spent: dict[str, float]) -> None:
        self._spent = spent
        self._of_thread = threading.local()

    @contextmanager
    def timing(
        self, name: str, owner: Any, attribute: str, candidates: list[int]
    ) -> Iterator[None]:
        """Times a function meanwhile."""
        function = getattr(owner, attribute)

        def timed(*args: Any, **options: Any) -> Any:
            inner = self._of_thread.__dict__.setdefault("inner", [0.0])
            inner.append(0.0)
            began = time.thread_time()
            found = function(*args, **options)
            took = time.thread_time() - began
            self._spent[name] = self._spent.get(name, 0.0) + took - inner.pop()
            inner[-1] += took
            if isinstance(found, ranker.Pairs):
                candidates.extend(np.bincount(found.query).tolist())
            return found

        with patch.object(owner, attribute, timed):
            yield
