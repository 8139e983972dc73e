"""A shop of some 50 buyers a day: too few to fit the weights of a mix on those of one day."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tests.shop import lay_out
from tests.system.days import FIRST, SECOND, THIRD, attempt, registry_of, twinspire
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.fusion.fuse import Fusion

pytestmark = pytest.mark.system
DAYS = (FIRST, SECOND, THIRD)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Three days of it."""
    folder = tmp_path_factory.mktemp("small")
    place = lay_out(folder)
    for file in (folder / "events").rglob("*.parquet"):
        events = pl.read_parquet(file)
        events.filter(pl.col("user_id") < "u075").write_parquet(file)
    text = place.read_text().replace("deterministic = true\n", "")
    place.write_text(text.replace("min_users = 10\n", "min_users = 1000\n"))
    twinspire("run", str(place), "--from", FIRST, "--to", THIRD)
    return place


def metrics_of(shop, day: str) -> DayMetrics:
    return DayMetrics.read(str(attempt(shop, day, "measure")))


def fusion_of(shop, day: str) -> Fusion:
    return Fusion.parse((attempt(shop, day, "measure") / "mix.json").read_bytes())


def test_every_version_serves_a_mix(shop):
    """None of the days has 100 users; three days together have them."""
    fitted = [fusion_of(shop, day).fitted for day in DAYS]
    assert [one.on for one in fitted] == ["prior", "prior", "progressive"]
    assert (fitted[2].since, fitted[2].day) == (FIRST, THIRD)
    users = [sum(one.users.values()) for one in fitted]
    assert 0 < users[0] < users[1] < 100 <= users[2]


def test_users_fitted_on_are_those_of_the_days_who_were_not_held_out(shop):
    queries = 0
    for day in DAYS:
        rows = pl.read_parquet(attempt(shop, day, "features") / "evaluation" / "*.parquet")
        of_day = rows.filter(pl.col("_day") == date.fromisoformat(day))
        queries += len(of_day.filter(~pl.col("_holdout")))
    assert sum(fusion_of(shop, THIRD).fitted.users.values()) == queries


def test_what_was_served_is_measured_from_the_second_day_on(shop):
    first, second, third = (metrics_of(shop, day) for day in DAYS)
    assert first.progressive and first.mix.progressive is None
    assert first.mix.holdout.candidate and first.mix.holdout.baseline is None
    for later in (second, third):
        assert later.mix.progressive and later.mix.holdout.change
        assert later.mix.progressive.value("recall@10") > 0


def test_answers_and_show_say_what_weights_were_served(shop):
    registry = registry_of(shop)
    second, third = registry.accepted()[1:]
    asked = ("recommend", str(shop), "--user", "u001", "--json", "--version")
    told = [twinspire(*asked, version) for version in (second, third)]
    assert [(one["source"], one["weights"]) for one in told] == [
        ("mix", "prior"),
        ("mix", "fitted"),
    ]
    shown = [twinspire("show", str(shop), version, "--json") for version in (second, third)]
    assert [one["weights"]["on"] for one in shown] == ["prior", "progressive"]
    report = Path(registry.place(second, "report.html")).read_text()
    assert "prior weights, which serve" in report


def test_lists_that_are_kept_stay_out_of_the_version(shop):
    kept = sorted(file.name for file in (attempt(shop, THIRD, "measure") / "lists").iterdir())
    assert kept == [f"dt={day}.parquet" for day in DAYS]
    registry = registry_of(shop)
    assert not [
        name for name in registry.manifest(registry.accepted()[-1]).files if "lists" in name
    ]
