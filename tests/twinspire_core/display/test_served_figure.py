from datetime import date

import pytest

from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.display.served_figure import on_held_out, on_its_day, on_next_day

DAY = date(2024, 5, 2)


def lists(recall, users=400):
    return {"users": users, "recall@50": recall}


def pairs(mean, base, users=400, differ=50):
    difference = {"mean": mean, "base": base, "deviation": 0.2, "differ": differ}
    return {"users": users, "by_measure": {"recall@50": difference}}


def metrics(**more):
    """The fixed order finds .5, the ranker .55; the best simple list .4, co-occurrence more than that."""
    differences = {"purchase_history": pairs(0.1, 0.4), "co_occurrence": pairs(0.05, 0.45)}
    recalls = {"most_popular": 0.1, "popular_lately": 0.2, "purchase_history": 0.4}
    recalls["co_occurrence"] = 0.45
    given = {
        "progressive": lists(0.3),
        "baselines": {name: lists(recall) for name, recall in recalls.items()},
        "fixed_order": {"progressive": lists(0.5), "beside_simple": differences},
    }
    return DayMetrics.model_validate(given | more)


RANKER = {
    "progressive": lists(0.55),
    "beside_simple": {"purchase_history": pairs(0.15, 0.4)},
    "holdout": {"users": 40, "candidate": lists(0.52, 40)},
}


def test_the_fixed_order_is_compared_with_the_best_simple_list_by_hand():
    figure = on_next_day(metrics(), "fixed_order", DAY, "recall@50")
    assert (figure.value, figure.source, figure.two_tower) == (0.5, "fixed_order", 0.3)
    assert (figure.simple, figure.simple_value, figure.users) == ("purchase_history", 0.4, 400)
    # A standard error of .2 / sqrt(400) = .01: 1.96 of them are .0196, or 4.9% of .4
    change = figure.change
    assert (change.change, change.low, change.high) == pytest.approx((0.25, 0.201, 0.299))
    assert figure.change_text == "25.0% better than the best simple list (+20.1% to +29.9%)"


def test_where_nobody_was_measured_there_is_no_figure():
    nobody = {"progressive": lists(0.0, 0), "beside_simple": {}}
    empty = {"users": 0, "candidate": lists(0.0, 0)}
    measured = metrics(progressive=lists(0.0, 0), fixed_order=nobody | {"holdout": empty})
    assert on_next_day(measured, "fixed_order", DAY, "recall@50") is None
    assert on_held_out(measured, "fixed_order", DAY, "recall@50") is None


def test_what_the_gate_let_serve_is_the_figure():
    measured = metrics(ranker=RANKER)
    ranked, order = (
        on_next_day(measured, serves, DAY, "recall@50") for serves in ("ranked", "fixed_order")
    )
    assert (ranked.value, order.value) == (0.55, 0.5)
    assert ranked.change.low == pytest.approx(0.375 - 0.049)
    alone = on_next_day(metrics(fixed_order={}), None, DAY, "recall@50")
    assert (alone.source, alone.value, alone.change.low) == ("two_tower", 0.3, None)


def test_what_was_not_measured_is_not_claimed():
    assert on_next_day(metrics(), "ranked", DAY, "recall@50") is None, "the ranker served"
    gone = on_next_day(metrics(ranker=RANKER), None, DAY, "recall@50")
    assert gone is None, "the verdict is pruned: either may have served"
    assert on_next_day(DayMetrics(), None, DAY, "recall@50") is None
    assert on_next_day(metrics(), "fixed_order", DAY, "recall@10") is None


def test_of_a_first_version_the_two_tower_is_not_taken_for_what_it_serves():
    held = {"users": 40, "candidate": lists(0.35, 40)}
    first = metrics(holdout=held, fixed_order={})
    assert on_its_day(first, None, DAY, "recall@50") is None, "its order was not measured then"
    later = metrics(holdout={**held, "baseline": lists(0.3, 40)})
    assert on_its_day(later, "fixed_order", DAY, "recall@50").whose == "the previous version"


def test_lists_of_few_users_who_fare_differently_have_no_interval():
    differences = {"purchase_history": pairs(0.1, 0.4, differ=9)}
    few = metrics(fixed_order={"progressive": lists(0.5), "beside_simple": differences})
    assert on_next_day(few, "fixed_order", DAY, "recall@50").change.low is None
    equal = metrics(fixed_order={"progressive": lists(0.4)})
    text = on_next_day(equal, "fixed_order", DAY, "recall@50").change_text
    assert text == "as good as the best simple list"


def test_held_out_users_say_so_and_are_those_of_the_lists_that_serve():
    differences = {
        "purchase_history": pairs(0.04, 0.36, users=40),
        "most_popular": pairs(0.3, 0.1, users=40),
    }
    held = {"users": 300, "days": 5, "candidate": lists(0.35)}
    held["baselines"] = {"purchase_history": lists(0.5)}
    of_order = {
        "holdout": {"users": 40, "candidate": lists(0.4, 40)},
        "own_beside_simple": differences,
    }
    measured = metrics(holdout=held, fixed_order=of_order, ranker=RANKER)
    order = on_held_out(measured, "fixed_order", DAY, "recall@50")
    assert (order.value, order.simple_value, order.users, order.two_tower) == (0.4, 0.36, 40, None)
    assert order.change.low == pytest.approx(0.4 / 0.36 - 1 - 1.96 * 0.2 / 40**0.5 / 0.36)
    assert order.held_out and order.users_text == "40 held-out users of 2024-05-02"
    assert order.text.endswith("Lists: fixed order of this version.")
    ranked = on_held_out(measured, "ranked", DAY, "recall@50")
    assert (ranked.value, ranked.source, ranked.simple_value) == (0.52, "ranked", 0.36)
    alone = on_held_out(metrics(holdout=held, fixed_order={}), None, DAY, "recall@50")
    assert (alone.value, alone.simple_value, alone.two_tower) == (0.35, 0.5, 0.35)
