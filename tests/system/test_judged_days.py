import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tests.system.days import FIRST, SECOND, THIRD, attempt, registry_of, twinspire


def test_a_day_refused_by_the_gate_is_not_inherited(shop):
    text = shop.read_text()
    shop.write_text(
        text.replace("min_users = 10", "min_users = 10\nfloors = { 'recall@10' = 0.999 }")
    )
    outcome = twinspire("run", str(shop), "--date", THIRD, check=4)
    assert outcome["days"][0]["outcome"] == "refused" and "0.9990" in outcome["days"][0]["reason"]
    registry = registry_of(shop)
    trained, refused, followed = [entry.version for entry in registry.log()][-3:]
    assert [entry.action for entry in registry.log()][-2:] == ["refuse", "publish"]
    # What was accepted goes on, with the day's catalogue.
    live = registry.manifest(registry.live())
    assert (live.version, live.refreshes, str(live.date)) == (followed, trained, SECOND)
    assert str(live.corpus_date) == THIRD
    assert outcome["days"][0]["live_version"] == followed
    assert registry.accepted_before(date(2024, 3, 12)).version == trained
    again = twinspire("publish", str(shop), "--date", THIRD, check=4)
    assert refused in again["reason"] and "0.9990" in again["reason"]
    assert registry.log()[-1].version == followed, "once is enough"
    twinspire("promote", str(shop), refused, "--despite-gate", "known cause")
    assert registry.live() == refused


def test_a_day_whose_item_ids_are_written_differently_is_refused_until_that_is_meant(shop):
    """As an export writes them that reads them as numbers: `i007` becomes `7`."""
    fourth = "2024-03-12"
    [snapshot] = (shop.parent / "items").glob("dt=*")
    of_days = {day: shop.parent / f"events/dt={day}" for day in (THIRD, fourth)}
    new_items = shop.parent / f"items/dt={fourth}"
    new_items.mkdir()
    number = pl.col("item_id").str.strip_prefix("i").cast(int).cast(str)
    for source, folder in [(snapshot, new_items), *((day, day) for day in of_days.values())]:
        rows = pl.read_parquet(source / "part-0.parquet").with_columns(item_id=number)
        rows.write_parquet(folder / "part-0.parquet")
    outcome = twinspire("run", str(shop), "--date", THIRD, check=4)
    assert "ids may be written differently" in outcome["days"][0]["reason"]
    registry = registry_of(shop)
    [refused] = [entry.version for entry in registry.log() if entry.action == "refuse"][:1]
    twinspire("promote", str(shop), refused, "--despite-gate", "the shop has new ids")
    assert registry.live() == refused
    twinspire("run", str(shop), "--date", fourth)
    assert registry.manifest(registry.live()).parent == refused


def test_a_day_on_which_a_feature_is_gone_is_refused_until_that_is_meant(shop):
    """As an export leaves out a column of the items."""
    [snapshot] = (shop.parent / "items").glob("dt=*")
    rows = pl.read_parquet(snapshot / "part-0.parquet").with_columns(kind=pl.lit(None, str))
    (shop.parent / f"items/dt={THIRD}").mkdir()
    rows.write_parquet(shop.parent / f"items/dt={THIRD}/part-0.parquet")
    outcome = twinspire("run", str(shop), "--date", THIRD, check=4)
    assert "feature kind has no value on the day" in outcome["days"][0]["reason"]
    registry = registry_of(shop)
    [refused] = [entry.version for entry in registry.log() if entry.action == "refuse"][:1]
    twinspire("promote", str(shop), refused, "--despite-gate", "kinds are no more")
    twinspire("run", str(shop), "--date", "2024-03-12")
    assert registry.manifest(registry.live()).parent == refused


@pytest.mark.system
def test_a_refused_days_catalogue_stays_out_when_towers_do_not_know_it(shop):
    """The day is refused, and its snapshot is broken: nobody asked for that to be served. Both is told,
    once, however often the day is run.
    """
    [first] = (shop.parent / "items").glob("dt=*")
    rows = pl.read_parquet(first / "part-0.parquet")
    broken = rows.with_columns(title=pl.lit("?"), kind=pl.lit("?"), price=pl.lit(0.0))
    (shop.parent / f"items/dt={THIRD}").mkdir()
    broken.write_parquet(shop.parent / f"items/dt={THIRD}/part-0.parquet")
    text = shop.read_text()
    messages = shop.parent / "messages"
    command = f"cat >> '{messages}'; echo >> '{messages}'"
    shop.write_text(
        text.replace("min_users = 10", "min_users = 10\nfloors = { 'recall@10' = 0.999 }")
        + f'\n[notify]\ncommand = "{command}"\n'
    )
    registry = registry_of(shop)
    live = registry.live()
    for _ in range(2):
        outcome = twinspire("run", str(shop), "--date", THIRD, check=4)
        assert "live_version" not in outcome["days"][0] and registry.live() == live
        assert [entry.action for entry in registry.log()][-2:] == ["refuse", "refuse"]
    actual = [json.loads(line) for line in messages.read_text().splitlines()]
    events = [(one["event"], one["stage"]) for one in actual]
    assert events == [("refused", "publish"), ("refused", "refresh")]


def test_versions_are_listed_rolled_back_and_pruned(shop):
    newest, older = twinspire("versions", str(shop), "--json")
    assert (newest["status"], older["status"]) == ("live", "accepted")
    metrics = json.loads((attempt(shop, SECOND, "measure") / "metrics.json").read_text())
    served = older["served"]
    assert served["value"] == metrics["fixed_order"]["progressive"]["recall@10"]
    assert served["two_tower"] == metrics["progressive"]["recall@10"]
    assert newest["served"]["held_out"]
    assert newest["value"] == metrics["holdout"]["candidate"]["recall@10"]
    back = twinspire("rollback", str(shop), "--reason", "bad logs")
    assert back["live"] == older["version"] and back["rolled_back"] == [newest["version"]]
    twinspire("pin", str(shop), newest["version"])
    state = attempt(shop, FIRST, "train")
    dry = twinspire("prune", str(shop), "--keep", "1", "--keep-days", "0")
    assert not dry["deleted"] and dry["versions"] == [] and str(state) not in dry["working_files"]
    assert str(attempt(shop, SECOND, "features")) in dry["working_files"]
    twinspire("pin", str(shop), newest["version"], "--remove")
    gone = twinspire("prune", str(shop), "--keep", "0", "--keep-days", "0", "--yes")
    assert gone["versions"] == [newest["version"]]
    assert not any(Path(file).exists() for file in gone["working_files"]) and state.exists()
    asked = twinspire("recommend", str(shop), "--user", "u001", "--json")
    assert asked["version"] == older["version"]
    twinspire("features", str(shop), "--date", SECOND)
    outcome = twinspire("train", str(shop), "--date", SECOND)
    assert outcome["parent"] == older["version"], "the state that it needs was kept"


@pytest.mark.system
def test_the_gate_also_compares_with_the_best_earlier_version(shop):
    registry = registry_of(shop)
    first, second = registry.state().accepted
    # As if the second day had lost much, which nobody then refused
    file = Path(registry.place(second, "metrics.json"))
    metrics = json.loads(file.read_text())
    line = metrics["line"][SECOND]
    assert line["against"] == first and line["best"] is None
    line["differences"]["recall@10"] = -0.25
    file.write_text(json.dumps(metrics))
    assert twinspire("prune", str(shop), "--keep", "1", "--keep-days", "0")["versions"] == []
    twinspire("run", str(shop), "--date", THIRD, check=None)
    third = json.loads((attempt(shop, THIRD, "measure") / "metrics.json").read_text())
    assert third["best"]["version"] == first and third["best"]["ahead"] == 0.25
    assert third["best"]["measures"]["users"] == third["holdout"]["users"]
    assert list(third["line"]) == [SECOND, THIRD] and third["line"][THIRD]["best"] == first
    made = twinspire("versions", str(shop), "--json")[0]["version"]
    shown = twinspire("show", str(shop), made, "--json")["gate"]["figures"]["best"]
    assert shown["version"] == first and shown["users"] == third["holdout"]["users"]
    assert shown["baseline"] == third["best"]["measures"]["recall@10"]
    page = Path(registry.place(made, "report.html")).read_text()
    assert f"the best earlier version, {first}" in page
    again = twinspire("run", str(shop), "--date", THIRD, check=None)
    assert again["days"][0]["outcome"] != "failed"
    assert attempt(shop, THIRD, "train").name.startswith("0001-"), "found done"
