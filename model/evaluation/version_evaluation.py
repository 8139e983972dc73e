"""What versions list for a day: its parent and the best accepted version, before the day is trained
on, and the version that is trained on it, for users held out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from model.evaluation.day_data import (
    BY_HISTORY,
    HELD_OUT,
    HELD_OUT_CLICKS,
    NEXT_CLICK,
    NEXT_DAY,
    DayData,
)
from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.tower_lists import (
    Encoded,
    Towers,
    encode,
    labelled_clicks,
    load_both,
    rank_encoded,
)
from model.towers.auxiliary_head import LabelledClicks
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import feature_columns
from twinspire_core.contracts.model_bundle import Input


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentEvaluation:
    """What the parent makes of the day, or a first version before it was trained on the day; empty
    without either.

    Attributes:
      lists: by evaluation set.
      clicks: labelled next-click queries in the parent's vectors, for its auxiliary head; None if
        the pipeline has no such head.
      missing_columns: columns that the parent reads and the day does not have, each with the
        reason.
      encoded: the vectors behind the lists; None without any.
    """

    lists: Mapping[str, RankedLists] = field(default_factory=dict)
    clicks: LabelledClicks | None = None
    missing_columns: Sequence[str] = ()
    encoded: Encoded | None = None


def evaluate_parent(
    pipeline: Pipeline, parent: Path | None, day: DayData, k: int
) -> ParentEvaluation:
    """Ranks with the parent's towers.

    Args:
      pipeline: today's.
      parent: local folder with the parent's towers; None without a parent.
      day: the evaluation sets.
      k: length of the lists.
    """
    if parent is None:
        return ParentEvaluation()
    # With its own graph and vocabulary, and with the day's raw features: what it would have served.
    return _evaluate(pipeline, load_both(parent), day, day.evaluation_sets, k)


def evaluate_before_last_day(
    pipeline: Pipeline, towers: Towers, day: DayData, k: int
) -> ParentEvaluation:
    """Ranks with the towers of a first version, as they are before the day is trained on.

    Not for the users held out of the day apart: there is no version to compare with.

    Args:
      pipeline: today's.
      towers: by side.
      day: the evaluation sets.
      k: length of the lists.
    """
    measured = (NEXT_DAY, NEXT_CLICK, BY_HISTORY)
    evaluation_sets = {
        name: day.evaluation_sets[name] for name in measured if name in day.evaluation_sets
    }
    return _evaluate(pipeline, towers, day, evaluation_sets, k)


def _evaluate(
    pipeline: Pipeline,
    towers: Towers,
    day: DayData,
    evaluation_sets: Mapping[str, EvaluationSet],
    k: int,
) -> ParentEvaluation:
    encoded = encode(towers, day.corpus, evaluation_sets)
    clicks = None
    if pipeline.train.auxiliary.weight:
        clicks = labelled_clicks(evaluation_sets[NEXT_CLICK], NEXT_CLICK, encoded)
    return ParentEvaluation(
        lists=rank_encoded(encoded, evaluation_sets, k),
        clicks=clicks,
        missing_columns=missing_columns(
            {side: tower.inputs for side, tower in towers.items()}, pipeline
        ),
        encoded=encoded if pipeline.ranking.enabled else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BestEvaluation:
    """What the best accepted version lists for users held out, where that is not the parent.

    Attributes:
      lists: of the evaluation set of users held out.
      missing_columns: as those of the parent.
    """

    lists: RankedLists
    missing_columns: Sequence[str] = ()


def evaluate_best(
    pipeline: Pipeline, best: Path | None, day: DayData, k: int
) -> BestEvaluation | None:
    """Ranks with the towers of the best accepted version, as `evaluate_parent` does with the
    parent's: its own graph and vocabulary, and the day's raw features.

    Args:
      pipeline: today's.
      best: local folder with its towers; None where it is the parent, or there is none.
      day: the evaluation sets.
      k: length of the lists.
    """
    if best is None:
        return None
    towers = load_both(best)
    held_out = {HELD_OUT: day.evaluation_sets[HELD_OUT]}
    encoded = encode(towers, day.corpus, held_out)
    inputs = {side: tower.inputs for side, tower in towers.items()}
    return BestEvaluation(
        lists=rank_encoded(encoded, held_out, k)[HELD_OUT],
        missing_columns=missing_columns(inputs, pipeline),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierVersions:
    """What earlier versions list for the day.

    Attributes:
      parent: the day's parent.
      best: the best accepted version; None where that is the parent.
    """

    parent: ParentEvaluation
    best: BestEvaluation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionEvaluation:
    """What the day's version makes of users held out of its training.

    Attributes:
      encoded: their queries, and the corpus.
      lists: by evaluation set.
    """

    encoded: Encoded
    lists: Mapping[str, RankedLists]


def evaluate_version(towers: Towers, day: DayData, k: int) -> VersionEvaluation:
    """Ranks with the version's towers.

    Args:
      towers: by side.
      day: the evaluation sets.
      k: length of the lists.
    """
    held_out = {name: day.evaluation_sets[name] for name in (HELD_OUT, HELD_OUT_CLICKS)}
    encoded = encode(towers, day.corpus, held_out)
    return VersionEvaluation(encoded=encoded, lists=rank_encoded(encoded, held_out, k))


def missing_columns(towers: Mapping[str, Mapping[str, Input]], pipeline: Pipeline) -> list[str]:
    """Columns that an earlier day's towers read and that are missing for them now, each with the
    reason.

    Args:
      towers: what each tower takes, by side (`twinspire_core.contracts.model_bundle.Tower.inputs`).
      pipeline: the one that today's rows were made by.
    """
    missing = []
    for side, inputs in towers.items():
        declared = declared_inputs(pipeline, side)
        for column, was in inputs.items():
            now = declared.get(column)
            if now != was:
                missing.append(f"{column} (now {_describe(now)}, was {_describe(was)})")
    return missing


def declared_inputs(pipeline: Pipeline, side: str) -> dict[str, Input]:
    """The raw columns of a tower as the pipeline file declares them."""
    inputs = {}
    for name, feature in pipeline.tower(side).items():
        for column in feature_columns(name, feature):
            is_list = pa.types.is_list(column.type)
            value_type = column.type.value_type if is_list else column.type
            dtype = "float32" if pa.types.is_float32(value_type) else str(value_type)
            inputs[column.name] = Input(dtype, is_list, feature.vector_size)
    return inputs


def _describe(column: Input | None) -> str:
    if column is None:
        return "gone"
    value = "text" if column.dtype == "string" else "number"
    if not column.listed:
        return f"a {value}"
    if column.width:
        return f"a list of {column.width} {value}s"
    return f"a list of {value}s"
