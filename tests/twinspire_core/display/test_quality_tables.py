from datetime import date

from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.display.quality_tables import held_out, on_the_day

DAY = date(2024, 5, 2)
MEASURES = {"recall@10": 0.125, "recall@50": 0.25, "ndcg@10": 0.5, "coverage@50": 0.375}


def metrics(**more):
    version = {"users": 1234, "candidate": MEASURES}
    held = version | {"baseline": MEASURES, "baselines": {"purchase_history": MEASURES}}
    order = {"progressive": MEASURES, "holdout": version}
    given = {"progressive": MEASURES, "holdout": held, "fixed_order": order}
    given["baselines"] = {"co_occurrence": MEASURES, "neighbours": MEASURES}
    return DayMetrics.model_validate(given | more)


def labels(evaluated):
    return [x.label for x in evaluated.lists]


def test_what_was_measured_on_the_day_and_on_held_out_users():
    day, held = on_the_day(metrics(), DAY), held_out(metrics(), DAY)
    both = ["served: fixed order", "two-tower"]
    assert labels(day) == [*both, "bought together", "bought by similar users"]
    assert labels(held) == [*both, "previous two-tower", "past purchases"]
    assert [x.served for x in day.lists] == [True, False, False, False]
    assert day.of_model and "1,234 users of 2024-05-02" in held.text


def test_on_the_first_day_there_is_nothing_of_a_model():
    first = metrics(progressive=None, holdout={})
    assert labels(on_the_day(first, DAY)) == ["bought together", "bought by similar users"]
    assert not on_the_day(first, DAY).of_model and not held_out(first, DAY).lists
