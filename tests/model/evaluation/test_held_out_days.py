"""Whom a version's line was never trained on, when `evaluation.holdout` changes from day to day."""

import json
from datetime import date
from types import SimpleNamespace

import pytest

from model.evaluation.held_out_days import shares_after, unseen_users_on
from twinspire_core.contracts import model_bundle

ALL = {date(2024, 5, n) for n in range(14, 20)}  # the six days before the 20th


@pytest.fixture
def context(tmp_path):
    """The 20th of May, with a parent that left this record; None: no parent; {}: one of before
    there were records.
    """

    def context(record, share, mode="incremental"):
        (tmp_path / model_bundle.METRICS).write_text(json.dumps(record or {}))
        return SimpleNamespace(
            day=date(2024, 5, 20),
            mode=mode,
            parent=None if record is None else SimpleNamespace(home=str(tmp_path)),
            pipeline=SimpleNamespace(evaluation=SimpleNamespace(holdout=share)),
        )

    return context


def record(**shares):
    return {model_bundle.SHARES: {f"2024-05-{day[1:]}": share for day, share in shares.items()}}


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_strangers_are_held_out_of_days_by_a_share_no_larger_than_then(context, mode):
    line = record(d17=0.1, d18=0.2, d19=0.05)
    # The 14th to 16th: never trained on
    assert unseen_users_on(context(line, 0.1, mode)) == ALL - {date(2024, 5, 19)}
    assert unseen_users_on(context(line, 0.2, mode)) == ALL - {date(2024, 5, 17), date(2024, 5, 19)}
    assert unseen_users_on(context(line, 0.05, mode)) == ALL


def test_without_a_parent_all_are_strangers_and_of_an_unknown_one_nobody_is(context):
    assert unseen_users_on(context(None, 0.1, "full")) == ALL
    assert unseen_users_on(context({}, 0.1)) == set()


def test_the_record_goes_on_through_the_line_and_forgets_after_a_week(context):
    line = record(d13=0.1, d14=0.1, d19=0.05)
    told = shares_after(context(line, 0.2), [date(2024, 5, 20)])
    assert told == {"2024-05-14": 0.1, "2024-05-19": 0.05, "2024-05-20": 0.2}
    unknown = shares_after(context({}, 0.2), [date(2024, 5, 20)])
    assert unknown == {str(day): 0.0 for day in ALL} | {"2024-05-20": 0.2}


def test_from_scratch_the_record_begins_anew(context):
    window = [date(2024, 5, n) for n in (1, 18, 19, 20)]
    told = shares_after(context(record(d19=0.05, d15=0.1), 0.2, "full"), window)
    assert told == {"2024-05-18": 0.2, "2024-05-19": 0.2, "2024-05-20": 0.2}
