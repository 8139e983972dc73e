"""What every worker of a feature job knows."""

import secrets
from dataclasses import dataclass, field
from datetime import date

from beam_jobs.day_plan import Plan
from beam_jobs.ingest.day_files import Inputs
from beam_jobs.ingest.later_folders import LateEvents
from twinspire_core.config.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureJob:
    """One run of the feature job; workers get a copy.

    Attributes:
      p: the pipeline.
      plan: its days.
      inputs: its files.
      late: what of `inputs.later` is read with them.
      out: URI of the folder that it writes to.
      block_hours: by day of examples, hours of the day that share a file.
      most_held_out: the most users held out of a day.
      token: tells this run from others in the same process.
    """

    p: Pipeline
    plan: Plan
    inputs: Inputs
    late: LateEvents
    out: str
    block_hours: dict[date, int]
    most_held_out: int
    token: str = field(default_factory=lambda: secrets.token_hex(8))
