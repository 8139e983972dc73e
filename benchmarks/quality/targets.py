"""What the project set out to reach, and how far it got."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.quality import served_with_events
from benchmarks.quality.contenders import AS_OF_EVENTS, READ_THE_DAY, TRANSFORMERS
from benchmarks.quality.figures import SLICES, Result, by_case, ratio, short

AIMS = {"globo/next-day": 1.05, "groceries/next-day": 1.08, "groceries/next-week": 1.08}
"""The least ratio of what is served to the best peer that was aimed at; elsewhere `AIM`."""
AIM = 1.10
NOT_BELOW = 1.0
"""Aimed at beside `TRANSFORMERS` and every peer that is not the best one, and by two-towers beside the
peer with the same encoder.
"""
OURS = "twinspire/served"
WITH_EVENTS = served_with_events.NAME
"""The same, sent events as they happen: held against peers that know of them too."""
TWO_TOWERS = (("twinspire/mean", "tfrs"), ("twinspire/two-tower", "tfrs"))
"""Our encoder like the peer's, trained anew like it; and the two-tower that is served."""
FEWEST = 20
"""Queries of a slice of users with fewer tell nothing, however alike they are."""
ALL = "all"
"""All users with a past, not only a slice of them."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One ratio of recall@50.

    Attributes:
      case: the case.
      kind: of lists.
      counts: whether such lists count on this log.
      users: `all` with a past, or one of `SLICES`.
      above: a contender.
      below: who it is compared with.
      best: whether that is the peer that found most on the earlier days.
      aim: the ratio that was aimed at; 1 in slices, of which is wanted that none is surely below.
      found: the ratio of the means.
      low: of its 95% interval; None where there is none.
      high: of its interval.
      queries: how many.
    """

    case: str
    kind: str
    counts: bool
    users: str
    above: str
    below: str
    best: bool
    aim: float
    found: float | None
    low: float | None
    high: float | None
    queries: int

    @property
    def surely_above(self) -> bool:
        """Whether the whole interval is above 1."""
        return self.low is not None and self.low > 1

    @property
    def surely_below(self) -> bool:
        """Whether the whole interval is below 1."""
        return self.high is not None and self.high < 1

    @property
    def verdict(self) -> str:
        """`reached`, or how much is missing: to the aim, or to an interval above 1."""
        if self.found is None:
            return "nobody asked"
        if self.users != ALL and self.queries < FEWEST:
            return "too few"
        if self.users != ALL:
            return f"MISSED by {1 - self.found:.3f}" if self.surely_below else "reached"
        if self.found < self.aim:
            return f"MISSED by {self.aim - self.found:.3f}"
        return "reached" if self.surely_above or self.aim == 1 else "MISSED: not surely above 1"

    def __str__(self) -> str:
        spread = "" if self.low is None else f" ({self.low:.3f}-{self.high:.3f})"
        what = f"{self.case}, seen {self.kind}, {self.users}: {self.above} / {self.below}"
        return f"{what:88} {self.found or np.nan:6.3f}{spread}, aim {self.aim:.2f}: {self.verdict}"

    def row(self) -> dict[str, object]:
        """What results.json says of it."""
        return {**asdict(self), "verdict": self.verdict}


def targets(
    results: Iterable[Result], best_peers: Mapping[tuple[str, str], Sequence[str]]
) -> list[Target]:
    """All ratios whose contenders have been measured: what is served over every peer, in slices of
    users too where that is the best one; two-towers over the peer with the same encoder.

    Args:
      results: of the test days.
      best_peers: by case and kind, the peer that found most on the earlier days; where that knows
        more than what is served, also the best that does not.
    """
    made: list[Target] = []
    for key, found in by_case(results).items():
        for peer in found:
            if not peer.startswith("twinspire"):
                best = peer in best_peers.get(key, ())
                made += _of(found, OURS, peer, best=best)
                if peer in READ_THE_DAY and key[0] in AS_OF_EVENTS:
                    made += _of(found, WITH_EVENTS, peer, best=best)
        for above, below in TWO_TOWERS:
            made += _of(found, above, below)
    return made


def _of(
    found: Mapping[str, Result], above: str, below: str, *, best: bool = False
) -> Iterator[Target]:
    if above not in found or below not in found:
        return
    pair = found[above], found[below]
    most = best and below not in TRANSFORMERS
    aim = AIMS.get(pair[0].case, AIM) if most else NOT_BELOW
    yield _target(ALL, aim, *(result.known for result in pair), best=best)
    for number, name in enumerate(SLICES if best else ()):
        part = [result.slice(number) for result in pair]
        if part[0].queries:
            yield _target(name, NOT_BELOW, *part, best=best)


def _target(users: str, aim: float, a: Result, b: Result, *, best: bool) -> Target:
    value, low, high = ratio(a, b)
    return Target(
        case=a.case,
        kind=a.kind,
        counts=a.counts,
        users=users,
        above=a.contender,
        below=b.contender,
        best=best,
        aim=aim,
        found=short(value),
        low=short(low),
        high=short(high),
        queries=a.queries,
    )
