import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from index_builder import publish_stage
from index_builder.registry.quality_history import quality_of
from index_builder.registry.registry import Registry
from twinspire.cli import run_days
from twinspire.cli.main import app

FIRST, SECOND, THIRD, FOURTH = (date(2024, 5, day) for day in (1, 2, 3, 4))


@pytest.fixture
def registry(pipeline):
    return Registry(pipeline.registry.root, pipeline.name)


@pytest.fixture
def day(context, pipeline, parent):
    """Runs a day: its own recall on held-out users, and what its parent had of it."""

    def run(date, recall, asked=None, seed=0):
        made = context(date, recall=recall, asked=asked, parent=parent(pipeline, date), seed=seed)
        return publish_stage.run(made)["version"]

    return run


def later(registry):
    """The next day of each stored version, and what was measured there."""
    wanted = [one.version for one in registry.statuses() if one.stored]
    quality = quality_of(registry, registry.log(), wanted)
    return {
        version: (one.next_day.version, one.next_day.metrics.progressive.value("recall@50"))
        for version, one in quality.items()
        if one.next_day
    }


def test_the_next_day_measures_the_version_before_it(day, registry):
    one, two, three = day(FIRST, 0.2), day(SECOND, 0.21, asked=0.3), day(THIRD, 0.22, asked=0.4)
    assert later(registry) == {one: (two, 0.3), two: (three, 0.4)}
    quality = quality_of(registry, registry.log(), [one])[one]
    assert quality.holdout.candidate.value("recall@50") == 0.2 and quality.gate.accepted
    figure = quality.served("recall@50")
    assert (figure.value, figure.day, figure.users) == (0.6, SECOND, 7), (
        "the fixed order, two-tower behind"
    )
    assert (figure.simple, figure.simple_value, figure.two_tower) == ("purchase_history", 0.15, 0.3)


def test_a_refused_day_measures_its_parent_and_so_does_the_one_after(day, registry):
    one, refused, three = day(FIRST, 0.2), day(SECOND, 0.1, asked=0.3), day(THIRD, 0.2, asked=0.4)
    assert later(registry) == {one: (refused, 0.3)}, "the nearest day"
    registry.delete(refused)
    assert later(registry) == {one: (three, 0.4)}


def test_after_a_rollback_the_next_day_measures_what_was_gone_back_to(day, registry):
    one, two = day(FIRST, 0.2), day(SECOND, 0.21, asked=0.3)
    registry.rollback(reason="bad")
    three = day(THIRD, 0.2, asked=0.4)
    again = day(SECOND, 0.2, asked=0.35, seed=1)
    assert later(registry) == {one: (again, 0.35)}, "of two versions of a day, the later one"
    registry.delete(again)
    registry.delete(two)
    assert later(registry) == {one: (three, 0.4)}


def test_a_version_trained_from_scratch_measures_its_parent_too(
    context, parent, pipeline, registry
):
    one = publish_stage.run(context(FIRST))["version"]
    made = context(SECOND, asked=0.3, parent=parent(pipeline, SECOND))
    two = publish_stage.run(replace(made, mode="full"))["version"]
    assert registry.manifest(two).parent is None and later(registry) == {one: (two, 0.3)}


@pytest.fixture
def printed(tiny_file):
    """What a command prints at 80 columns."""

    def run(name, *arguments):
        done = CliRunner(env={"COLUMNS": "80"}).invoke(
            app, [name, tiny_file, *arguments], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_versions_are_listed_by_what_they_serve(day, registry, printed):
    one, two, refused = day(FIRST, 0.2), day(SECOND, 0.215, asked=0.3), day(THIRD, 0.1, asked=0.4)
    registry.pin(one)
    lines = printed("versions").splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(" 2024")}
    assert rows == {
        refused: ["refused", "500", "0.100", "–", "0.100", "held", "out"],
        two: ["live", "7", "0.800", "0.200", "0.400", "next", "day"],
        one: ["accepted,", "7", "0.600", "0.150", "0.300", "next", "day"],
    }
    (why,) = [line for line in lines if line.startswith(refused)]
    assert why.startswith(f"{refused} refused: recall@50 is 0.1000, below 0.1800")
    listed = {row["version"]: row for row in json.loads(printed("versions", "--json"))}
    served = {"metric": "recall@50", "value": 0.8, "interval": None, "whose": "this version"}
    served |= {"source": "fixed_order", "day": "2024-05-03", "users": 7, "held_out": False}
    served |= {"simple": "purchase_history", "simple_value": 0.2, "change": {"change": 3.0}}
    assert listed[two]["served"].pop("text").startswith("served 0.800, past purchases 0.200")
    assert listed[two]["served"] == served | {"two_tower": 0.4}
    assert listed[two]["live"] and listed[refused]["refused"]
    assert listed[refused]["served"]["held_out"]
    assert listed[one]["pinned"] and listed[one]["notes"] and listed[one]["users"] == 500
    assert listed[one]["items"] == 300


def test_a_version_is_shown_with_both_figures_and_the_gates_reasons(day, registry, printed):
    day(FIRST, 0.2)
    two, refused = day(SECOND, 0.215, asked=0.3), day(THIRD, 0.1, asked=0.4)
    shown = printed("show", two)
    first, second = shown.splitlines()[:2]
    assert first == f"tiny {two}, live" and f"{registry.place(two, 'report.html')}\n" in shown
    assert second.startswith("quality  served 0.800, past purchases 0.200: 300.0% better")
    table = shown[shown.index("on  ") :]
    last = re.findall(r"(?m)^.* (0\.\d{3})[ –]*$", table)
    assert last == ["0.800", "0.400", "0.100", "0.200", "0.215", "0.200"]
    of_refused = printed("show", refused)
    assert "\n         - recall@50 is 0.1000, below 0.1800" in of_refused
    assert "measured users of 2024-05-03. Lists: fixed order of the previous version" in of_refused
    assert "served 0.100: no simple list to compare with. recall@50 over 500 held-out" in of_refused
    report = json.loads(printed("show", two, "--json"))
    assert (report["version"], report["status"], report["gate"]["accepted"]) == (two, "live", True)
    assert (report["next_day"]["recall@50"], report["served"]["value"]) == (0.4, 0.8)
    assert report["holdout"]["candidate"] == {"recall@50": 0.215}
    assert report["log"][0]["action"] == "publish"


def test_a_run_ends_with_what_was_served_on_its_days(day, pipeline, capsys):
    """By the version before each of them, whatever the gate said of the day's own."""
    day(FIRST, 0.2)
    two, refused = day(SECOND, 0.215, asked=0.3), day(THIRD, 0.1, asked=0.4)
    outcomes = [
        {"day": str(SECOND), "outcome": "published", "version": two, "live": True},
        {"day": str(THIRD), "outcome": "refused", "version": refused},
        {"day": str(FOURTH), "outcome": "late"},
    ]
    outcomes = [{**one, "seconds": {"train": 1.6}} for one in outcomes]
    run_days._tell(pipeline, outcomes)
    text = capsys.readouterr()
    rows = [line.split() for line in text.err.splitlines()]
    assert ["live", two, "0.600", "0.150", "0.300", "2"] in rows
    assert ["refused", refused, "0.800", "0.200", "0.400", "2"] in rows
    assert ["late", "2024-05-04", "–", "–", "–", "2"] in rows
    said = "2024-05-03 served 0.800, past purchases 0.200: 300.0% better than the best simple list"
    assert said in text.err and "Lists: fixed order of the previous version" in text.err
    assert not text.out, "the line of JSON is the command's"
    second, third, fourth = outcomes
    assert (second["served"]["value"], third["served"]["value"]) == (0.6, 0.8)
    assert fourth["served"] is None


@pytest.mark.parametrize(
    ("users", "said"), [(63, "not measured yet (–)"), (0, "no user of these days had")]
)
def test_a_run_without_figures_says_why(day, registry, pipeline, capsys, users, said):
    version = day(FIRST, 0.2)
    file = Path(registry.folder(version)) / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["holdout"] |= {"users": users, "candidate": None}
    file.write_text(json.dumps(metrics | {"fixed_order": {}}))
    outcome = {"day": str(FIRST), "outcome": "published", "version": version, "live": True}
    run_days._tell(pipeline, [outcome | {"seconds": {}}])
    assert said in " ".join(capsys.readouterr().err.split())


def test_where_nothing_was_published_it_says_so(printed):
    assert "tiny has no version in" in printed("versions")
    assert json.loads(printed("versions", "--json")) == []


def test_versions_with_other_measures_are_not_one_series(context, pipeline, parent, printed):
    """The figure of a version belongs to the settings of the day that measured it."""

    def day(date, asked, **columns):
        edited = pipeline.model_copy(
            update={"columns": pipeline.columns.model_copy(update=columns)}
        )
        before = parent(pipeline, date)
        made = context(date, asked=asked, parent=before, pipeline=edited)
        return publish_stage.run(made)["version"]

    one = day(FIRST, None)
    two = day(SECOND, 0.3)
    clicks = {"event": "kind", "positives": ("click",)}
    three = day(THIRD, 0.4, **clicks)
    listing = printed("versions")
    lines = listing.splitlines()
    rows = [line.split()[0] if line.strip() else "" for line in lines]
    assert rows[rows.index(three) : rows.index(one) + 1] == [three, two, "", one]
    (why,) = [
        line
        for line in lines
        if line.startswith("Do not compare figures measured on 2024-05-03 and later")
    ]
    assert "with earlier ones" in why
    assert "columns.positives was [], is ['click']" in listing
