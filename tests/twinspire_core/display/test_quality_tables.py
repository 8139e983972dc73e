from datetime import date

from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import Measures
from twinspire_core.display.quality_tables import (
    held_out,
    interval_text,
    measure_text,
    on_the_day,
    quality_table,
)
from twinspire_core.display.table import Style

DAY = date(2024, 5, 2)
FOUND = {"recall@10": 0.125, "recall@50": 0.25, "ndcg@10": 0.5, "coverage@50": 0.375}


def metrics(**more):
    held = {
        "users": 1234,
        "candidate": FOUND,
        "baseline": FOUND,
        "baselines": {"purchase_history": FOUND},
    }
    order = {"progressive": FOUND, "holdout": {"users": 1234, "candidate": FOUND}}
    given = {
        "progressive": FOUND,
        "baselines": {"co_occurrence": FOUND, "factors": FOUND},
        "holdout": held,
        "fixed_order": order,
    }
    return DayMetrics.model_validate(given | more)


def labels(evaluated):
    return [one.label for one in evaluated.lists]


def test_what_was_measured_on_the_day_and_on_held_out_users():
    day, held = on_the_day(metrics(), DAY), held_out(metrics(), DAY)
    assert labels(day) == [
        "served: fixed order",
        "two-tower",
        "bought together",
        "factorisation (iALS)",
    ]
    assert labels(held) == [
        "served: fixed order",
        "two-tower",
        "two-tower before",
        "past purchases",
    ]
    assert [one.served for one in day.lists] == [True, False, False, False]
    assert day.of_model and "1,234 users of 2024-05-02" in held.text


def test_on_the_first_day_there_is_nothing_of_a_model():
    first = metrics(progressive=None, holdout={})
    assert labels(on_the_day(first, DAY)) == ["bought together", "factorisation (iALS)"]
    assert not on_the_day(first, DAY).of_model and not held_out(first, DAY).lists


def test_a_section_for_each_set_of_queries():
    table = quality_table(metrics(), DAY, [10, 50])
    assert table.head == [
        "on",
        "list",
        "recall@10",
        "recall@50",
        "nDCG@10",
        "hit rate@10",
        "coverage@50",
    ]
    first, second = table.parts()
    assert [row[0].text for row in first] == ["day", "", "", ""]
    assert [row[0].text for row in second] == ["held out", "", "", ""]
    assert [cell.text for cell in first[0]] == [
        "day",
        "served: fixed order",
        "0.125",
        "0.250",
        "0.500",
        "–",
        "37.5%",
    ]
    assert {cell.style for cell in first[0][1:]} == {Style.STRONG}
    assert {cell.style for cell in first[1]} == {None}
    assert table.note.splitlines()[1].startswith("held out: 1,234 users")


def test_digits_are_as_many_of_shares_as_of_other_measures():
    measures = Measures.model_validate({**FOUND, "intervals": {"recall@10": [0.1, 0.15]}})
    assert measure_text(measures, "recall@10", 4) == "0.1250"
    assert measure_text(measures, "coverage@50", 4) == "37.50%"
    assert measure_text(None, "coverage@50") == "–"
    assert interval_text(measures, "recall@10") == "0.125 (0.100–0.150)"
    assert interval_text(measures, "recall@50") == "0.250"
