"""The gate: whether a version may go live. A pure function of measured figures.

    towers   the two-tower's lists against those of the newest and of the best accepted version
             (index_builder/gate/tower_rules.py)
    order    the trees against those of the version before (index_builder/gate/ranker_rules.py)
    recipe   whether trees or the fixed order serve, which refuses nothing (the same module)
    limits   floors and ceilings, size of the corpus, skew, recall of the index
             (index_builder/gate/limits.py)

With too few users the gate concludes nothing, and notes that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from index_builder.gate.comparison import (
    Finding,
    JudgedVersion,
    compare_all,
    compare_slices,
    compare_with_best,
    finite,
)
from index_builder.gate.limits import (
    beyond,
    judge_days_items,
    judge_emptied,
    judge_exchange,
    judge_index,
    judge_limits,
    judge_served_limits,
    judge_size,
    judge_skew,
    judge_version_skew,
)
from index_builder.gate.ranker_rules import RecipeJudgement, judge_order, judge_recipe, note_recipe
from index_builder.gate.tower_rules import judge_towers, note_unread
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.features_report import FeatureSkew
from twinspire_core.contracts.gate_verdict import (
    ComparedFigures,
    GateFigures,
    GateVerdict,
    PooledFigures,
)

Rule = Callable[[JudgedVersion, GateConfig, IndexConfig], Iterable[Finding]]

# To add a rule, write a function in a module of this folder and add it here. The verdict keeps this order.
RULES: tuple[Rule, ...] = (
    judge_towers,
    judge_order,
    judge_limits,
    judge_served_limits,
    judge_index,
    judge_size,
    judge_days_items,
    judge_emptied,
    note_unread,
    judge_version_skew,
    note_recipe,
)


def judge(measured: JudgedVersion, gate: GateConfig, index: IndexConfig) -> GateVerdict:
    """Compares a version with earlier versions and with the limits of the pipeline file."""
    findings = [finding for rule in RULES for finding in rule(measured, gate, index)]
    # Rules that need this call it again: it is a pure function of a few numbers
    recipe = judge_recipe(measured, gate)
    return _conclude(findings, _figures(measured, recipe, gate), recipe.serves)


def _conclude(findings: Sequence[Finding], figures: GateFigures, serves: str | None) -> GateVerdict:
    refused = tuple(text for refuses, text in findings if refuses)
    return GateVerdict(
        accepted=not refused,
        refused=refused,
        notes=tuple(text for refuses, text in findings if not refuses),
        figures=figures,
        # Keys without a value are left out
        **({"serves": serves} if serves else {}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRefresh:
    """What the gate judges of a refresh. The towers and their measures are unchanged.

    Attributes:
      trained: the version whose towers it has.
      index_recall: share of the exact neighbours that the index finds.
      items: size of the corpus.
      before: size of the corpus before.
      new: how many items are not in the corpus before.
      withdrawn: how many items of the corpus before are gone.
      skew: how far the served features are from those that the towers were trained on.
      serves: `ranked` or `fixed_order`; None as long as the gate has not judged that.
      lacking: features of the ranker that this catalogue does not have. With any, the ranker is left out.
      silent: sources with a weight in its fixed order that list nothing.
      unasked: whether it follows a refused day automatically.
    """

    trained: str
    index_recall: float | None
    items: int
    before: int
    new: int
    withdrawn: int
    skew: Sequence[FeatureSkew] = ()
    serves: str | None = None
    lacking: Sequence[str] = ()
    silent: Sequence[str] = ()
    unasked: bool = False


def judge_refresh(
    refreshed: JudgedRefresh, quality: GateFigures, gate: GateConfig, index: IndexConfig
) -> GateVerdict:
    """Applies the limits of the index and of changes to the corpus to a refresh.

    Args:
      quality: the figures by which the gate judged the towers; the verdict repeats them.
    """
    findings = [
        *beyond("index recall", refreshed.index_recall, index.recall_target, "index.recall_target"),
        *judge_exchange("not in", refreshed.new, refreshed.before),
        *judge_exchange("gone from", refreshed.withdrawn, refreshed.before),
        *judge_skew(refreshed.skew, gate, unasked=refreshed.unasked),
        Finding(False, f"quality is not judged again: the towers are those of {refreshed.trained}"),
        *_left_out(refreshed),
    ]
    # The figures of the towers stay as judged; these two belong to the refresh
    measured = {"index_recall": finite(refreshed.index_recall), "items": refreshed.items}
    return _conclude(findings, quality.model_copy(update=measured), refreshed.serves)


def _left_out(refreshed: JudgedRefresh) -> Iterator[Finding]:
    if refreshed.lacking:
        yield Finding(
            False,
            f"the ranker of {refreshed.trained} is left out, as it uses"
            f" {', '.join(refreshed.lacking)}, which this catalogue does not have: sources.use or"
            " corpus.attributes was changed",
        )
    if refreshed.silent:
        yield Finding(
            False,
            f"the fixed order of {refreshed.trained} does not use lists of"
            f" {', '.join(refreshed.silent)}: sources.use was changed. The next trained day fits weights"
            " for the new sources",
        )


def _figures(measured: JudgedVersion, recipe: RecipeJudgement, gate: GateConfig) -> GateFigures:
    """The figures that were compared; fields without a comparison are left out."""
    two_tower, memory, ranker = measured.two_tower, measured.memory, measured.ranker
    figures: dict[str, Any] = {}
    if best := compare_with_best(two_tower, memory, gate.metric):
        figures["best"] = best.figures()
    if pooled := memory.pool_newest(two_tower, gate) if memory else None:
        figures["pooled"] = PooledFigures(**pooled.figures())
    if ranker and ranker.holdout.candidate:
        figures["trees"] = ComparedFigures(**compare_all(ranker.holdout, gate.metric).figures())
    if recipe.figures:
        figures["recipe"] = recipe.figures
    return GateFigures(
        metric=gate.metric,
        **compare_all(two_tower, gate.metric).figures(),
        slices={
            part.slice: ComparedFigures(**part.figures())
            for part in compare_slices(two_tower, gate.metric)
        },
        **figures,
        index_recall=finite(measured.index_recall),
        items=measured.items,
    )
