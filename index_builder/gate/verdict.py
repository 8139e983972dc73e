"""The gate: whether a version may go live. A pure function of measured figures.

    towers   the two-tower's lists against those of the newest and of the best accepted version, and
             its lead over what was popular on the day (index_builder/gate/tower_rules.py)
    ranker   the trees against those of the version before; and whether trees or the fixed order
             serve, which refuses nothing (index_builder/gate/ranker_rules.py)
    limits   floors and ceilings, size of the corpus, skew (index_builder/gate/limits.py); recall of
             the index

With too few users nothing is concluded; that is noted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from index_builder.gate.comparison import (
    Finding,
    LineMemory,
    compare_all,
    compare_slices,
    compare_with_best,
    finite,
)
from index_builder.gate.limits import (
    below,
    judge_exchange,
    judge_limits,
    judge_served_limits,
    judge_size,
    judge_skew,
)
from index_builder.gate.ranker_rules import RecipeJudgement, judge_order, judge_recipe
from index_builder.gate.tower_rules import (
    MeasuredUsers,
    judge_popularity_lift,
    judge_towers,
    lift_of_line,
)
from twinspire_core.config.source_names import RANKED
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures, RankerMeasures
from twinspire_core.contracts.features_report import FeatureSkew
from twinspire_core.contracts.gate_verdict import ComparedFigures, GateFigures, GateVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedVersion:
    """What the gate judges.

    Attributes:
      two_tower: measures of its lists on held-out users.
      fixed_order: measures of its lists in the fixed order, on users held out of the day itself.
      lifts_before: how far the versions before led over what was popular, by measure, the oldest
        first.
      ranker: measures of lists by trees; None if the pipeline file asks for no ranker.
      memory: measures of the versions before; None to judge without.
      index_recall: share of the exact neighbours that the index finds, or None if that was not
        measured.
      items: size of the corpus.
      baseline_items: size of the baseline's corpus.
      measurable: how many users of the day it could be measured on; None if that is not known.
      unread: features that are missing for the baseline, because the pipeline file changed them.
      skew: how far features of what is served are from those trained on.
    """

    two_tower: HeldOutMeasures
    fixed_order: HeldOutMeasures = field(default_factory=HeldOutMeasures)
    lifts_before: Sequence[Mapping[str, float]] = ()
    ranker: RankerMeasures | None = None
    memory: LineMemory | None = None
    index_recall: float | None
    items: int
    baseline_items: int | None
    measurable: MeasuredUsers | None = None
    unread: Sequence[str] = ()
    skew: Sequence[FeatureSkew] = ()


def judge(measured: JudgedVersion, gate: GateConfig, index: IndexConfig) -> GateVerdict:
    """Compares a version with those before and with the limits of the pipeline file."""
    two_tower, memory, ranker = measured.two_tower, measured.memory, measured.ranker
    recipe = judge_recipe(ranker, memory, gate)
    served = ranker.holdout if ranker and recipe.serves == RANKED else measured.fixed_order
    findings = [
        *judge_towers(two_tower, memory, measured.measurable, gate),
        *judge_popularity_lift(two_tower, measured.lifts_before, gate),
        *judge_order(ranker, gate),
        *judge_limits(two_tower, gate),
        *judge_served_limits(served, gate),
        *below("index recall", measured.index_recall, index.recall_target, "index.recall_target"),
        *judge_size(measured.items, measured.baseline_items),
        *_unread(measured),
        *judge_skew(measured.skew, gate),
        *recipe.notes,
    ]
    return _conclude(findings, _figures(measured, recipe, gate), serves=recipe.serves)


def _conclude(
    findings: Sequence[Finding], figures: GateFigures, *, serves: str | None = None
) -> GateVerdict:
    refused = tuple(text for refuses, text in findings if refuses)
    notes = tuple(text for refuses, text in findings if not refuses)
    verdict = {"accepted": not refused, "refused": refused, "notes": notes, "figures": figures}
    return GateVerdict(**verdict, **({"serves": serves} if serves else {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRefresh:
    """What the gate judges of a refresh: its towers, and what was measured of them, are unchanged.

    Attributes:
      trained: the version whose towers it has.
      index_recall: share of the exact neighbours that the index finds.
      items: size of the corpus.
      before: size of the corpus that it is compared with.
      new: how many items are not in that one.
      withdrawn: how many items of that one are gone.
      skew: how far features of what is served are from those that the towers were trained on.
      serves: `ranked` or `fixed_order`; None as long as the gate has not judged that.
      lacking: features of the ranker that this catalogue cannot give: the ranker is left out.
      silent: sources that its fixed order has weights for, and that list nothing.
      unasked: whether it follows a refused day without anybody having asked for it.
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
    """Holds a refresh to the limits of the index and of changes to the corpus.

    Args:
      quality: the figures by which the gate judged the towers; the verdict repeats them.
    """
    findings = [
        *below("index recall", refreshed.index_recall, index.recall_target, "index.recall_target"),
        *judge_exchange("not in", refreshed.new, refreshed.before),
        *judge_exchange("gone from", refreshed.withdrawn, refreshed.before),
        *judge_skew(refreshed.skew, gate, unasked=refreshed.unasked),
        Finding(False, f"quality is not judged again: the towers are those of {refreshed.trained}"),
        *_left_out(refreshed),
    ]
    measured = {"index_recall": finite(refreshed.index_recall), "items": refreshed.items}
    return _conclude(findings, quality.model_copy(update=measured), serves=refreshed.serves)


def _left_out(refreshed: JudgedRefresh) -> Iterator[Finding]:
    trained = refreshed.trained
    edited = "of the pipeline file is another one now"
    if refreshed.lacking:
        text = f"the ranker of {trained} is left out, as it uses {', '.join(refreshed.lacking)}"
        keys = "sources.use or corpus.attributes"
        yield Finding(False, f"{text}, which this catalogue does not say: {keys} {edited}")
    if refreshed.silent:
        text = f"the fixed order of {trained} goes without lists of {', '.join(refreshed.silent)}"
        yield Finding(False, f"{text}: sources.use {edited}; the next day has weights for it")


def _unread(measured: JudgedVersion) -> Iterator[Finding]:
    if measured.two_tower.baseline and measured.unread:
        why = "the pipeline file was edited, and these features are missing for the baseline"
        yield Finding(False, f"{why}: {', '.join(measured.unread)}")


def _figures(measured: JudgedVersion, recipe: RecipeJudgement, gate: GateConfig) -> GateFigures:
    """What was compared; fields of what was not are left out."""
    two_tower, memory, ranker = measured.two_tower, measured.memory, measured.ranker
    lift = lift_of_line(two_tower, measured.lifts_before, gate.metric)
    figures: dict[str, Any] = {}
    if best := compare_with_best(two_tower, memory, gate.metric):
        figures["best"] = best.figures()
    if pooled := memory.pool_newest(two_tower, gate) if memory else None:
        figures["pooled"] = pooled.figures()
    if ranker and ranker.holdout.candidate:
        trees = compare_all(ranker.holdout, gate.metric)
        figures["trees"] = ComparedFigures(**trees.figures())
    if recipe.figures:
        figures["recipe"] = recipe.figures
    of_slices = compare_slices(two_tower, gate.metric)
    return GateFigures(
        metric=gate.metric,
        **compare_all(two_tower, gate.metric).figures(),
        slices={one.slice: ComparedFigures(**one.figures()) for one in of_slices},
        lead=lift.figures(),
        **figures,
        index_recall=finite(measured.index_recall),
        items=measured.items,
    )
