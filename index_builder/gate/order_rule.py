"""The gate's rule on the order: a version's trees against those of the newest accepted version, for
users held out of the day. Both order the same candidates, by the vectors of the version before and by
counts as of the day's start: neither has seen the day. A user is the unit. Refused when the whole
95% interval lies below -`gate.max_drop`.
"""

from collections.abc import Iterator

from index_builder.gate.comparison import LEAST_DIFFERENT, Finding, compare_all
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import RankerMeasures


def judge_order(ranker: RankerMeasures | None, gate: GateConfig) -> Iterator[Finding]:
    """Compares a version's trees with those before; notes what cannot be compared.

    Args:
      ranker: what was measured of trees; None where none were wanted.
      gate: the limit.
    """
    if ranker is None or ranker.fitted is None:
        return
    unjudged = "the trees are not compared with those of the version before"
    if ranker.holdout.baseline is None:
        yield Finding(
            False, f"{unjudged}: there are none for the same sources. The rule begins here"
        )
        return
    one = compare_all(ranker.holdout, gate.metric)
    if one.change is None or not one.is_known:
        few = f"the lists of {one.differ} held-out users differ, {LEAST_DIFFERENT} are needed"
        yield Finding(False, f"{unjudged}: {few}")
    elif one.surely_lost(gate.max_drop):
        yield Finding(
            True,
            f"{one.name} of the trees is {one.candidate:.4f}, the trees of the version before find"
            f" {one.baseline:.4f} of the same candidates{one.change_as_text}; all of the interval"
            f" below -gate.max_drop = -{gate.max_drop:g} is refused",
        )
