"""What every worker of a feature job knows, and what it keeps in memory between elements."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from beam_jobs.days import Plan
from beam_jobs.reading.source import Inputs
from twinspire.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of the feature job; workers get a copy.

    Attributes:
      p: the pipeline.
      plan: its days.
      inputs: its files.
      out: URI of the folder that it writes to.
      block_hours: by day of examples, hours of the day that share a file.
      token: tells this run from others in the same process.
    """

    p: Pipeline
    plan: Plan
    inputs: Inputs
    out: str
    block_hours: dict[date, int]
    token: str = field(default_factory=lambda: secrets.token_hex(8))


class Kept:
    """Frames that are dear to make, up to a bound in bytes, the longest unused leaving first."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._lock = most_bytes, threading.Lock()
        self._frames: OrderedDict[Hashable, pl.DataFrame] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """The frame of this key; made now if it is not kept."""
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
            frame = self._frames[key] = make()
            while len(self._frames) > 1 and sum(f.estimated_size() for f in self._frames.values()) > self._most:
                self._frames.popitem(last=False)
            return frame
