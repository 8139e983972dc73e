"""Steps of jobs that go wrong, and a client of one: `python -m tests.beam_jobs.beam.remote_steps
OUT OPTION…`.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import apache_beam as beam

from beam_jobs.beam import engine
from beam_jobs.beam.engine import fails_fast
from twinspire_core.errors import BadData

BAD = "A file is read whole; a.parquet cannot be. Deliver it again."


class Refuses(beam.DoFn):
    """Finds bad data."""

    def __init__(self, out):
        self.out = str(out)

    @fails_fast
    def process(self, element):
        raise BadData(BAD)


class RefusesAgainAndAgain(Refuses):
    """The same, under a runner that restarts the job each time."""

    def process(self, element):
        with suppress(BadData):
            yield from super().process(element)
        time.sleep(600)


def errs(element):
    """A mistake in a step."""
    return {}[element]


def dies(element):
    """Its process is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def sleeps(element, place):
    """Says that it has begun, and goes on for long."""
    Path(place).write_text("begun")
    time.sleep(600)


def job(step):
    """A job of one element and a step."""
    return lambda pipeline: pipeline | beam.Create([1], reshuffle=False) | "Step" >> step


if __name__ == "__main__":
    from twinspire.cli.main import _end

    signal.signal(signal.SIGTERM, _end)
    out, *options = sys.argv[1:]
    engine.run_job(options, job(beam.Map(sleeps, f"{out}/begun")), out)
