import json
import shutil
from pathlib import Path

import pytest

from serving.requests.request_model import ListRequest
from serving.version.loaded_version import Version
from tests.system.days import (
    FIRST,
    SECOND,
    STAGES,
    THIRD,
    attempt,
    registry_of,
    result,
    twinspire,
    typed,
)
from twinspire.cli.ask import user_result
from twinspire_core.config.pipeline import load


def test_a_first_versions_lists_follow_its_fixed_order(two_days):
    """Its lists for the stored users, found again from the files of the stages: none of them is of
    its own making.
    """
    shop = str(two_days[0] / "shop.toml")
    by_order = ("--source", "fixed_order")
    outcome = twinspire("recommend", shop, "--user", "u001", "-k", "5", "--json", *by_order)
    assert outcome["source"] == "fixed_order" and all(item["source"] for item in outcome["items"])
    order = json.loads((registry_of(shop).open() / "fixed_order.json").read_text())
    made = attempt(Path(shop), SECOND, "measure") / "fixed_order.json"
    assert order == json.loads(made.read_text())
    version = Version.open(load(shop))
    alone = {
        name: user_result(version, "u001", ListRequest(k=100, source=name))
        for name in order["weights"]
    }
    scores: dict[str, float] = {}
    for name, answer in alone.items():
        # Without what fills it up
        listed = [item["item"] for item in answer["items"] if item["source"] == name]
        for place, item in enumerate(listed):
            scores[item] = scores.get(item, 0) + order["weights"][name] * 60 / (60 + place)
    best = sorted(scores.values(), reverse=True)[:5]
    assert [item["score"] for item in outcome["items"]] == pytest.approx(best, abs=1e-5)


def test_the_same_day_again_is_skipped_and_changes_nothing(two_days):
    shop = two_days[0] / "shop.toml"
    before, log = result(shop, SECOND), registry_of(shop).log()
    for stage in STAGES:
        assert twinspire(stage, str(shop), "--date", SECOND)["status"] == "already done"
    assert result(shop, SECOND) == before and registry_of(shop).log() == log


def test_a_repeated_day_gives_the_same_result(shop):
    """In a process that orders its sets otherwise than the run of both days did."""
    before = result(shop, SECOND)
    typed("run", str(shop), "--date", SECOND, "--force")
    after = result(shop, SECOND)
    assert not [key for key in before if before[key] != after[key]], (
        "and so the same version, published once"
    )
    report = json.loads((attempt(shop, SECOND, "features") / "report.json").read_text())
    assert report["statistics"]["compared_with"]["day"] == FIRST, "not with its own first attempt"


def test_later_logs_do_not_change_an_older_day(shop):
    """Point in time: the day is made again with all later partitions gone."""
    before = result(shop, SECOND)
    for later in ("2024-03-11", "2024-03-12", "2024-03-13", "2024-03-14"):
        shutil.rmtree(shop.parent / f"events/dt={later}")
    assert twinspire("features", str(shop), "--date", SECOND, "--force")["status"] == "done"
    assert result(shop, SECOND) == before
    assert twinspire("train", str(shop), "--date", SECOND)["status"] == "already done", (
        "equal input, nothing to do"
    )


@pytest.mark.system
def test_a_model_is_published_with_the_parent_it_was_measured_against(shop):
    first, second = registry_of(shop).state().accepted
    for stage in STAGES[:2]:
        twinspire(stage, str(shop), "--date", THIRD, "--mode", "full")
    for stage in STAGES[2:5]:
        assert twinspire(stage, str(shop), "--date", THIRD)["mode"] == "full"
    twinspire("rollback", str(shop), "--to", first)
    outcome = twinspire("publish", str(shop), "--date", THIRD, check=75)
    assert second in outcome["reason"] and first in outcome["reason"]
    assert "twinspire run" in outcome["reason"]
    assert registry_of(shop).live() == first
    twinspire("promote", str(shop), second, "--despite-gate", "it was not that")
    published = twinspire("publish", str(shop), "--date", THIRD)
    assert published["parent"] == second and published["live"]
    assert registry_of(shop).manifest(published["version"]).parent is None, (
        "it was trained from scratch"
    )


@pytest.mark.system
def test_a_late_day_in_a_range_does_not_stop_the_others(shop):
    shutil.rmtree(shop.parent / f"events/dt={THIRD}")
    outcome = twinspire("run", str(shop), "--from", THIRD, "--to", "2024-03-12", check=75)
    assert [d["outcome"] for d in outcome["days"]] == ["late", "published"]
    assert twinspire("summary", str(shop), "--date", THIRD)["state"] == "late"


def test_an_edited_key_repeats_only_the_stages_that_read_it(shop):
    shop.write_text(shop.read_text().replace("max_drop = 0.8", "max_drop = 0.7"))
    actual = [twinspire(stage, str(shop), "--date", SECOND)["status"] for stage in STAGES]
    assert actual == [*["already done"] * 5, "done"]
    shop.write_text(shop.read_text().replace("days = 3", "days = 2"))
    outcome = twinspire("train", str(shop), "--date", SECOND, check=2)
    assert "made before the file changed" in outcome["reason"]
    assert "twinspire features" in outcome["reason"]


@pytest.mark.system
def test_a_larger_holdout_excludes_users_that_were_trained_on(shop):
    """The first day was trained on its whole window but a fifth, the second on all but a fifth: .3
    holds out more.
    """
    text = shop.read_text().replace("min_users = 10\n", "min_users = 1000\n")
    held = {}
    for share in ("0.2", "0.3"):
        shop.write_text(text.replace("holdout = 0.2", f"holdout = {share}"))
        for stage in STAGES[:3]:
            twinspire(stage, str(shop), "--date", THIRD)
        held[share] = json.loads((attempt(shop, THIRD, "measure") / "metrics.json").read_text())[
            "holdout"
        ]
    assert held["0.2"]["days"] == 7 and held["0.2"]["users"] > 1.5 * held["0.3"]["users"]
    # On each of the six days before, the line of versions was trained on some that would be held
    # out now.
    assert held["0.3"]["days"] == 1


@pytest.mark.system
def test_an_older_day_run_later_can_become_a_parent_but_not_live(
    shop,
):
    def attention(day):
        attention = twinspire("summary", str(shop), "--date", day)["attention"]
        return {one["day"]: one for one in attention}

    def do_again(entry):
        program, *arguments = entry["command"].split()
        assert program == "twinspire"
        return twinspire(*arguments)["days"]

    late = "2024-03-12"
    twinspire("run", str(shop), "--date", late)
    before = attention(late)
    assert {day: one["state"] for day, one in before.items()} == {THIRD: "missing"}
    of_train = json.loads((attempt(shop, late, "measure") / "metrics.json").read_text())["gaps"]
    again = f"twinspire run shop --from {THIRD} --to {THIRD}"
    assert of_train == [{"from": THIRD, "to": THIRD, "command": again}]
    [filled] = do_again(before[THIRD])
    registry = registry_of(shop)
    assert registry.live()[:10] == late and registry.log()[-1].version == filled["version"]

    entries = attention(late)
    assert {day: one["state"] for day, one in entries.items()} == {late: "stale"}
    assert f"now it would be {filled['version']}" in entries[late]["reason"]
    [made_again] = do_again(entries[late])
    assert made_again["parent"] == filled["version"] and made_again["live"]
    assert attention(late) == {}


@pytest.mark.system
def test_reading_all_logs_again_gives_equal_files(shop):
    kept = Path(shop.parent, "work/shop/partials")
    assert len({file.parent for file in kept.rglob("*.arrow")}) > 5
    before = attempt(shop, SECOND, "features")
    shutil.rmtree(kept)
    twinspire("features", str(shop), "--date", SECOND, "--force")
    again = attempt(shop, SECOND, "features")
    assert again != before
    # The digest of all files that a later stage reads, and the vocabularies.
    one, other = (json.loads((place / "DONE.json").read_text()) for place in (before, again))
    assert one["output"] == other["output"]
    words = {file.name: file.read_bytes() for file in before.rglob("assets/*")}
    assert words == {file.name: file.read_bytes() for file in again.rglob("assets/*")} != {}
