"""What the demo ends with: one table, one list and four commands in 30 lines of 80 columns."""

import json
from datetime import date

import polars as pl
import pytest
from rich.console import Console

from examples.grocery_demo import demo_report
from tests.serving.conftest import pipeline, pipeline_file, publish, towers  # noqa: F401

DAYS = [date(2024, 1, day) for day in (1, 2, 3)]


def lists(recall, ndcg):
    return {"users": 321, "recall@50": recall, "ndcg@10": ndcg}


BASELINES = {"purchase_history": lists(0.31, 0.22), "most_popular": lists(0.1, 0.23)}


def metrics(day):
    """On each day but the first the version before serves: its fixed order finds .42, its ranker .44."""
    measured = {"progressive": lists(0.27, 0.17), "baselines": BASELINES}
    if day == DAYS[0]:
        return measured
    return measured | {
        "holdout": {"baseline": lists(0.2, 0.1)},
        "fixed_order": {"progressive": lists(0.42, 0.3)},
        "ranker": {"progressive": lists(0.44, 0.35)},
    }


@pytest.fixture
def shown(pipeline, towers, tmp_path):  # noqa: F811
    for day, serves in zip(DAYS, ("fixed_order", "ranked", "ranked"), strict=True):
        staged = tmp_path / f"staged-{day}"
        staged.mkdir()
        (staged / "metrics.json").write_text(json.dumps(metrics(day)))
        (staged / "gate.json").write_text(json.dumps({"accepted": True, "serves": serves}))
        publish(pipeline, towers, staged, str(day))
    console = Console(width=80)
    with console.capture() as printed:
        demo_report.show(pipeline, DAYS, "5 min 3 s", console)
    return printed.get().splitlines()


def test_a_row_a_day_of_what_was_served_on_it(shown):
    assert len(shown) <= 30 and max(map(len, shown)) <= 80
    rows = [line.split() for line in shown]
    simple, two_tower = ["0.310", "0.230"], ["0.270", "0.170"]
    served = [["–", "–"], ["0.420", "0.300"], ["0.440", "0.350"]]
    for day, of_day in zip(DAYS, served, strict=True):
        assert [str(day), "321", *of_day, *simple, *two_tower] in rows


def test_one_list_and_four_commands(shown):
    assert any(line.startswith("3 days in 5 min 3 s. 2024-01-03-") for line in shown)
    # `ben` and `cat` have bought nothing, `anna` has.
    start = next(n for n, line in enumerate(shown) if line.startswith("For household cat"))
    assert shown[start + 1].split()[:2] == ["1", "Item"]
    assert shown[start + 1].rstrip().endswith("new")
    commands = shown[shown.index("Type next") + 1 :]
    assert len(commands) == 4 and all(".venv/bin/twinspire " in line for line in commands)


def test_the_household_is_the_one_in_the_middle():
    users = pl.DataFrame({"_user": ["d", "a", "b"], "_past": [["1"] * 9, ["1"] * 3, None]})
    assert demo_report.typical_household(users)["_user"] == "a"
