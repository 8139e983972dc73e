"""The gate: whether a version may go live. A pure function of measured figures.

    towers   the two-tower's lists beside those of the newest and of the best accepted version
             (index_builder/gate/tower_rule.py)
    order    its trees beside those of the version before
    recipe   whether trees serve, or the fixed order; it refuses nothing
             (index_builder/gate/recipe_rule.py)
    limits   `gate.floors` and `gate.ceilings`, whatever the baseline has
             (index_builder/gate/limits.py); the index's recall; the size of the corpus; features of
             what is served beside those trained on (index_builder/gate/skew_rule.py)

Of logs that change by the day, `gate.max_lead_drop` adds the lead of the two-tower over what was
popular on the day. Of too few users nothing is concluded; that is noted.
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
from index_builder.gate.limits import below, judge_limits, judge_served_limits
from index_builder.gate.recipe_rule import RecipeJudgement, judge_order, judge_recipe
from index_builder.gate.skew_rule import judge_skew
from index_builder.gate.tower_rule import (
    MeasuredUsers,
    judge_popularity_lift,
    judge_towers,
    lift_of_line,
)
from twinspire_core.config.source_names import RANKED
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures, RankerMeasures
from twinspire_core.contracts.features_report import FeatureSkew
from twinspire_core.contracts.gate_verdict import ComparedFigures, GateFigures, GateVerdict

MAX_CORPUS_CHANGE = 0.5
"""Relative change of the corpus's size: a catalogue that halves overnight was rather read in part."""
_IF_RIGHT = "; if the catalogue is right, `twinspire promote --despite-gate` makes the version live"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedVersion:
    """What the gate judges.

    Attributes:
      two_tower: its lists on held-out users.
      fixed_order: its lists in the fixed order, on users held out of the day itself.
      lifts_before: leads of the versions before over what was popular, by measure, the oldest
        first.
      ranker: what is known of lists by trees; None where none were wanted.
      memory: what is remembered of the versions before; None to judge without.
      index_recall: share of the exact neighbours that the index finds, or None if that was not
        measured.
      items: size of the corpus.
      baseline_items: size of the baseline's corpus.
      measurable: users of the day whom it could be measured on; None where that is not known.
      unread: features that are missing for the baseline, as the pipeline file has them in another
        form now.
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
    found = [
        *judge_towers(two_tower, memory, measured.measurable, gate),
        *judge_popularity_lift(two_tower, measured.lifts_before, gate),
        *judge_order(ranker, gate),
        *judge_limits(two_tower, gate),
        *judge_served_limits(served, gate),
        *below("index recall", measured.index_recall, index.recall_target, "index.recall_target"),
        *_corpus_change(measured, gate),
        *_unread(measured),
        *judge_skew(measured.skew, gate),
        *recipe.notes,
    ]
    return _conclude(found, _figures(measured, recipe, gate), serves=recipe.serves)


def _conclude(
    findings: Sequence[Finding], figures: GateFigures, *, serves: str | None = None
) -> GateVerdict:
    refused = tuple(text for refuses, text in findings if refuses)
    notes = tuple(text for refuses, text in findings if not refuses)
    verdict = {"accepted": not refused, "refused": refused, "notes": notes, "figures": figures}
    return GateVerdict(**verdict, **({"serves": serves} if serves else {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRefresh:
    """What the gate judges of a refresh. Its towers are unchanged, and so is what users get from
    them.

    Attributes:
      trained: the version whose towers it has.
      index_recall: share of the exact neighbours that the index finds.
      items: size of the corpus.
      before: size of the corpus that it is compared with.
      new: items that are not in that one.
      withdrawn: items of that one that are gone.
      skew: how far features of what is served are from those that the towers were trained on.
      serves: what the version answers with whose towers these are.
      lacking: what its ranker uses and cannot be made from the catalogue: the ranker is left out.
      silent: sources that its fixed order has weights for, and that list nothing.
      unasked: whether it follows a refused day, and nobody asked for it.
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
      quality: the figures by which the gate judged the towers.
    """
    found = [
        *below("index recall", refreshed.index_recall, index.recall_target, "index.recall_target"),
        *_exchanged("not in", refreshed.new, refreshed, gate),
        *_exchanged("gone from", refreshed.withdrawn, refreshed, gate),
        *judge_skew(refreshed.skew, gate, unasked=refreshed.unasked),
        Finding(False, f"quality is not judged again: the towers are those of {refreshed.trained}"),
        *_left_out(refreshed),
    ]
    measured = {"index_recall": finite(refreshed.index_recall), "items": refreshed.items}
    return _conclude(found, quality.model_copy(update=measured), serves=refreshed.serves)


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


def _exchanged(
    how: str, items: int, refreshed: JudgedRefresh, gate: GateConfig
) -> Iterator[Finding]:
    """Sizes alone would not tell a corpus that was replaced by another one."""
    share = items / max(1, refreshed.before)
    if share > MAX_CORPUS_CHANGE:
        yield Finding(
            True,
            f"{items:,} items are {how} the {refreshed.before:,} before: {share:.0%}, above"
            f" {MAX_CORPUS_CHANGE:.0%}{_IF_RIGHT}",
        )


def _corpus_change(measured: JudgedVersion, gate: GateConfig) -> Iterator[Finding]:
    if measured.items == 0:
        yield Finding(True, "the corpus is empty")
    elif measured.baseline_items:
        change = abs(measured.items / measured.baseline_items - 1)
        if change > MAX_CORPUS_CHANGE:
            yield Finding(
                True,
                f"the corpus has {measured.items} items, the baseline's {measured.baseline_items}:"
                f" a change of {change:.0%}, above {MAX_CORPUS_CHANGE:.0%}{_IF_RIGHT}",
            )


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
