from datetime import date, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest

from model.evaluation.day_data import HELD_OUT, NEXT_DAY, DayData
from model.evaluation.evaluation_set import prepare_whole
from model.evaluation.other_baselines import other_baselines
from model.evaluation.source_lists import costly_lists
from twinspire_core.config.tables.quality import EvaluationConfig
from twinspire_core.sources.candidate_sources import CandidateSources

TODAY, YESTERDAY = date(2024, 5, 20), date(2024, 5, 19)
CORPUS = pa.table({"_item": ["a", "b", "c"], "_popular": [3, 2, 1], "_lately": [3, 2, 1]})
# a and c were taken together: by the very users of yesterday, as far as today's table knows.
TOGETHER = pa.table(
    {"_item": ["a"], "_rows": pa.array([[2]], pa.list_(pa.int32())), "_similarities": [[0.5]]}
)
EVALUATION = EvaluationConfig(ks=(2,))


def asked(*days: date):
    strings = pa.list_(pa.string())
    rows = {
        "_user": [f"u{n}" for n in range(len(days))],
        "_day": pa.array(days, pa.date32()),
        "_truth": pa.array([["c"]] * len(days), strings),
        "_past": pa.array([["a"]] * len(days), strings),
        "_past_events": [1] * len(days),
    }
    return prepare_whole(pa.table(rows), CORPUS)


@pytest.mark.parametrize(
    ("held", "there"),
    [((TODAY, TODAY), True), ((TODAY, YESTERDAY), False), ((TODAY - timedelta(days=6),), False)],
)
def test_co_occurrence_is_not_held_against_users_whose_answers_it_counts(held, there):
    ctx = SimpleNamespace(day=TODAY, pipeline=SimpleNamespace(evaluation=EVALUATION))
    evaluation_sets = {NEXT_DAY: asked(TODAY), HELD_OUT: asked(*held)}
    day = DayData(corpus=CORPUS, evaluation_sets=evaluation_sets, events=CORPUS.slice(0, 0))
    sources = CandidateSources.of(CORPUS, {"co_occurrence": TOGETHER})
    costly = {
        name: costly_lists(sources, evaluation_set, 2)
        for name, evaluation_set in evaluation_sets.items()
    }
    baselines = other_baselines(ctx, day, sources, costly)
    assert baselines[NEXT_DAY]["co_occurrence"].kept.tolist() == [[2, 0]], (
        "filled up with what is popular"
    )
    assert ("co_occurrence" in baselines[HELD_OUT]) == there
