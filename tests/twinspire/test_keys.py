"""Which stages the settings of the mix concern."""

import pytest

from twinspire.keys import STAGES, config_digest
from twinspire.pipeline import Pipeline


def pipeline(**mix) -> Pipeline:
    return Pipeline.model_validate(
        {
            "pipeline": {"name": "tiny"},
            "source": {"events": "/none/dt={date}/"},
            "columns": {"user": "user", "item": "item", "time": "time"},
            "features": {"user": {"kind": "id", "tower": "query"}, "item": {"kind": "id", "tower": "item"}},
            "mix": mix,
        }
    )


TOWERS = {"sources": ["two_tower", "past"]}  # nothing that is counted by pairs


@pytest.mark.parametrize(
    ("one", "other", "stages"),
    [
        ({}, {"min_users": 7}, {"train"}),
        ({}, {"sources": ["two_tower", "co_occurrence"]}, {"train"}),
        ({}, {"neighbours": 7}, {"features", "train"}),
        ({}, TOWERS, {"features", "train"}),
        (TOWERS, {**TOWERS, "neighbours": 7}, {"train"}),
    ],
)
def test_only_the_stages_that_use_a_setting_depend_on_it(one, other, stages):
    before, after = pipeline(**one), pipeline(**other)
    assert {name for name, s in STAGES.items() if config_digest(before, s) != config_digest(after, s)} == stages
