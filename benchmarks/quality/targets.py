"""What the project set out to reach, and how far it got."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.figures import Result, by_case
from twinspire_core.metrics.bootstrap import interval

CORRECTED = ("twinspire/batch", "twinspire/expected_count")
PEERS = ("tfrs", "als", "bpr", "item_to_item", "most_popular", "popular_lately")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One ratio.

    Attributes:
      case: the case.
      what: `numerator / denominator`.
      wanted: least ratio.
      found: the ratio of the means.
      low: of its 95% interval, nan where there is none.
      high: of its interval.
    """

    case: str
    what: str
    wanted: float
    found: float
    low: float
    high: float

    def __str__(self) -> str:
        spread = "" if np.isnan(self.low) else f" ({self.low:.2f}-{self.high:.2f})"
        told = "reached" if self.found >= self.wanted else "MISSED"
        return (
            f"{told:8}{self.case:24}{self.what:58}{self.found:7.2f}{spread}, wanted"
            f" {self.wanted:.2f}"
        )


def targets(results: Iterable[Result]) -> list[Target]:
    """All targets whose contenders have been measured."""
    return [target for case, found in by_case(results).items() for target in _of_case(case, found)]


def _of_case(case: str, found: dict[str, Result]) -> Iterator[Target]:
    best = _best(found, CORRECTED)
    yield from _ratio(case, found, best, "twinspire/none", 1.25)
    for peer in PEERS:
        yield from _ratio(case, found, "twinspire", peer, 1.10)
    yield from _ratio(case, found, "twinspire/mean", "tfrs", 1.0)
    if "twinspire" in found and "most_popular" in found:
        ours, theirs = (found[name].mean("coverage@50") for name in ("twinspire", "most_popular"))
        yield Target(
            case=case,
            what="coverage@50: twinspire / most_popular",
            wanted=10.0,
            found=ours / max(theirs, 1e-9),
            low=np.nan,
            high=np.nan,
        )
    if all(name in found and found[name].rate for name in ("twinspire/mean", "tfrs")):
        rates = [np.array(found[name].rate) for name in ("twinspire/mean", "tfrs")]
        n = min(map(len, rates))
        ratios = rates[0][:n] / rates[1][:n]
        yield Target(
            case=case,
            what="examples/s: twinspire/mean / tfrs",
            wanted=1.0,
            found=float(ratios.mean()),
            low=float(ratios.min()),
            high=float(ratios.max()),
        )
    if case == "ml-100k/last-item":
        yield from _ratio(
            case, found, "twinspire", _best(found, ("twinspire/pooled", "twinspire/mean")), 1.15
        )


def _best(found: dict[str, Result], names: Sequence[str]) -> str:
    there = [name for name in names if name in found]
    return max(there, key=lambda name: found[name].mean()) if there else names[0]


def _ratio(
    case: str, found: dict[str, Result], above: str, below: str, wanted: float
) -> Iterator[Target]:
    if above not in found or below not in found:
        return
    a = found[above]
    b = found[below]
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = interval(a.draws / b.draws) or (np.nan, np.nan)
    ratio = a.mean() / b.mean() if b.mean() else np.inf
    yield Target(
        case=case,
        what=f"recall@50: {above} / {below}",
        wanted=wanted,
        found=ratio,
        low=low,
        high=high,
    )
