"""`mix.json` of a measure attempt and of a version: how candidate sources are fused."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from twinspire_core.contracts.json_files import JsonFile, JsonPart

PROGRESSIVE = "progressive"
"""Weights were fitted on users of days that the two-tower had not seen."""
HELD_OUT_USERS = "held_out"
"""Weights were fitted on users held out of training, with the version's own lists."""
PRIOR = "prior"
"""Weights were fitted on nobody here: they are those that serve logs of this kind."""


class FittedOn(JsonPart):
    """What weights were fitted on.

    Attributes:
      on: `progressive`, users of the day or of some days who were not held out; `held_out`; or
        `prior`, nobody yet.
      day: the newest of these days, an ISO date.
      since: the oldest of them; None where nothing is said, as it was one day then.
      two_tower: the version whose lists of that newest day were fused; None for the day's own.
      metric: that the weights are best at.
      users: how many of each slice; too few for weights of their own, if these are prior.
      own_weights: slices with weights of their own; the others share those of all users.
      kind: of log that prior weights are for, `repeats`, `steady` or `no_repeats`; None for fitted ones.
    """

    on: str | None = None
    day: str | None = None
    since: str | None = None
    two_tower: str | None = None
    metric: str | None = None
    users: Mapping[str, int] = {}
    own_weights: Sequence[str] = ()
    kind: str | None = None


class FusionFormat(JsonFile):
    """What a reader looks at first. It refuses a file of another format, whatever else that holds.

    Attributes:
      format: of the file.
      constant: of the formula in twinspire_core/fusion/fuse.py.
    """

    FILE: ClassVar[str] = "mix.json"

    format: int
    constant: float


class FusionFile(FusionFormat):
    """The file. Without one, the two-tower is served alone.

    Attributes:
      depth: items of each source that are looked at.
      bounds: where slices of users by earlier events begin.
      sources: names, the two-tower's among them.
      weights: by slice and source.
      fitted: what they were fitted on.
    """

    depth: int
    bounds: Sequence[int]
    sources: Sequence[str]
    weights: Mapping[str, Mapping[str, float]]
    fitted: FittedOn
