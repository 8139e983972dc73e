"""What a soak kills is drawn evenly, and by its seed alone."""

from collections import Counter

from benchmarks.soak import plan
from tests.dags.kills import KINDS, STAGES


def test_each_part_is_killed_as_often_as_any_other_and_each_stage_too():
    kills = plan(30, seed=1)
    assert Counter(kill.kind for kill in kills) == dict.fromkeys(KINDS, 6)
    assert Counter(kill.stage for kill in kills) == dict.fromkeys(STAGES, 5)
    # Not always the same part in the same stage.
    assert len({(kill.kind, kill.stage) for kill in kills}) > 12
