"""The home page over a registry of four made-up days: the third was rolled back, the fourth refused."""

import json
import re
import threading
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from index_builder.registry.registry import Registry
from serving.answers.live_check import Check
from serving.http.server_settings import Settings
from serving.http.service import Service
from serving.inspector import home_page, templating
from serving.inspector.home_page import Reading, RegistryReader
from serving.inspector.templating import Address
from tests.index_builder.report.pages import metrics
from tests.published import described
from tests.serving.http.conftest import shop
from tests.serving.inspector.test_pages import text
from twinspire_core import errors
from twinspire_core.display.table import Style

DAYS = [date(2024, 5, day) for day in (1, 2, 3, 4)]
# The lists of the version before on each day, and held-out users after and before training on it.
# The fixed order, which serves, has a tenth more; the best simple list has 0.0625.
MEASURED = [(None, 0.1, None), (0.2, 0.3, 0.25), (0.3, 0.4, 0.35), (0.4, 0.1, 0.4)]


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "_typed", "PIPELINE")  # whatever a command named before
    return shop(tmp_path)


@pytest.fixture
def publish(pipeline, tmp_path):
    registry = Registry(pipeline.registry.root, pipeline.name)

    def publish(day, measured=None, refused=()):
        staged = tmp_path / f"staged-{day}"
        staged.mkdir()
        gate = {"accepted": not refused, "refused": refused, "notes": ["few users"]}
        (staged / "gate.json").write_text(json.dumps(gate))
        if measured:
            (staged / "metrics.json").write_text(json.dumps(metrics(*measured)))
        manifest = described(staged, pipeline.name, day)
        reason = "; ".join(refused) or "accepted"
        registry.publish(str(staged), manifest, accepted=not refused, reason=reason)
        return manifest.version

    return publish


@pytest.fixture
def versions(pipeline, publish):
    registry = Registry(pipeline.registry.root, pipeline.name)
    made = [publish(*pair) for pair in zip(DAYS[:3], MEASURED[:3], strict=True)]
    registry.pin(made[0])
    registry.rollback(reason="odd lists")
    return [*made, publish(DAYS[3], MEASURED[3], ["the towers are worse", "so is the index"])]


def served(version):
    day = date.fromisoformat(version[:10])
    manifest = SimpleNamespace(date=day, corpus_date=None)
    since = datetime(2024, 5, 3, 1, tzinfo=UTC)
    return SimpleNamespace(version=SimpleNamespace(id=version, manifest=manifest), since=since)


def after(day, hours):
    """So many hours after the end of a day in Tokyo."""
    return datetime(day.year, day.month, day.day, 15, tzinfo=UTC) + timedelta(hours=hours)


def home(pipeline, reading, loading=None):
    """The page of a server that has no version yet."""
    service = Service(pipeline, Settings())
    service.live.loading = loading
    return templating.home(service, None, Address(), reading, after(DAYS[0], 1))


def test_what_became_of_the_versions(pipeline, versions):
    reading = RegistryReader(pipeline).latest(None)
    page = home(pipeline, reading)
    table = page[page.index("<h2>Versions") :]
    rows = [text(row) for row in re.findall(r'<tr><th scope="row">.*?</tr>', table, re.S)]
    assert [row.partition(" 0.062 ")[0] for row in rows] == [
        f"2024-05-04 {versions[3]} refused 0.110 held out",
        f"2024-05-03 {versions[2]} rolled back 0.440 held out",
        f"2024-05-02 {versions[1]} live 0.330",
        f"2024-05-01 {versions[0]} accepted, pinned 0.220",
    ]
    live = [row.partition(" 0.062 ")[2] for row in rows]
    assert (
        live[0] == "–" and live[2].startswith("since") and " to " in live[1] and " to " in live[3]
    )
    [back] = [entry for entry in reading.log if entry.action == "rollback"]
    assert reading.live[versions[1]] == (back.at, None)
    assert reading.live[versions[2]][1] == back.at
    served = [(day.day, round(day.served.value, 4)) for day in reading.days]
    assert served == [(DAYS[1], 0.22), (DAYS[2], 0.33), (DAYS[3], 0.44)]
    assert "style=" not in page and reading.chart.svg in page
    said = text(page[page.index("Last verdicts") : page.index("<h2>Versions")])
    assert f"refused {versions[3]} the towers are worse so is the index 1 note few users" in said
    assert f"rolled back {versions[2]} odd lists 1 note few users See its figures" in said
    assert f"accepted {versions[1]} 1 note few users accepted {versions[0]} 1 note" in said
    assert "recall@50 of the served lists 0.440 95% interval 0.396–0.484" in text(page)


def problems(pipeline, reading, live, now):
    service = Service(pipeline, Settings())
    return [
        (one.problem, one.command)
        for one in home_page.find_problems(service, served(live), reading, now)
    ]


def test_each_problem_names_the_command_that_deals_with_it(pipeline, versions, tmp_path):
    for day in range(4, 8):
        (tmp_path / f"events/dt=2024-05-0{day}").mkdir(parents=True)
        (tmp_path / f"events/dt=2024-05-0{day}/a.csv").touch()
    reading = RegistryReader(pipeline).latest(None)
    assert reading.logs == date(2024, 5, 7)
    show = f"twinspire show PIPELINE {versions[3]}"
    refused = ("the gate refused the newest day", show)
    assert problems(pipeline, reading, versions[1], after(DAYS[1], 47)) == [refused]
    late = "twinspire run PIPELINE --from 2024-05-05 --to 2024-05-07"
    old = ("the live version is too old", late)
    assert problems(pipeline, reading, versions[1], after(DAYS[1], 49)) == [old, refused]
    unseen = RegistryReader(pipeline.model_copy(update={"source": None})).latest(None)
    assert unseen.logs is None and len(unseen.statuses) == 4, "the registry is enough"
    old = ("the live version is too old", "twinspire status PIPELINE")
    assert problems(pipeline, unseen, versions[1], after(DAYS[1], 49))[0] == old
    empty = Check("all are empty", "lists are empty", "Go back", "twinspire rollback PIPELINE")
    bad = Reading(at=after(DAYS[1], 1), lists={versions[1]: [Check("fine"), empty]})
    assert problems(pipeline, bad, versions[1], after(DAYS[1], 1)) == [
        ("lists are empty", "twinspire rollback PIPELINE")
    ]


def test_lists_that_are_surely_worse_than_a_simple_one_need_attention(pipeline, publish):
    worse = metrics(*MEASURED[1])
    best = {"mean": -0.03, "base": 0.0625, "deviation": 0.01, "differ": 20}
    pairs = {"popular_lately": {"users": 20, "by_measure": {"recall@50": best}}}
    worse["fixed_order"] |= {
        "progressive": {"recall@50": 0.0325, "users": 20},
        "beside_simple": pairs,
    }
    publish(DAYS[0], MEASURED[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "metrics", lambda *measured: worse)
        live = publish(DAYS[1], MEASURED[1])
    reading = RegistryReader(pipeline).latest(None)
    assert problems(pipeline, reading, live, after(DAYS[1], 1)) == [
        (
            "served lists are worse than a simple list",
            "twinspire summary PIPELINE --date 2024-05-02",
        )
    ]


def first(pipeline, reading, live, found=()):
    style, state, said = home_page.first_sentence(
        Service(pipeline, Settings()), served(live), reading, [Check("", one) for one in found]
    )
    return style, f"{state} {said}"


def test_the_first_sentence(pipeline, publish):
    one = publish(DAYS[0])
    reading = RegistryReader(pipeline).latest(None)
    live = "Well: the version of 1 May 2024 is live."
    assert first(pipeline, reading, one) == (
        Style.GOOD,
        f"{live} Its lists have not been measured yet.",
    )
    two = publish(DAYS[1], MEASURED[1])
    reading = RegistryReader(pipeline).latest(None)
    assert reading.chart is None and len(reading.days) == 1
    better = "Lists served on 2 May 2024: 252.0% better than the best simple list."
    assert first(pipeline, reading, two)[1].endswith(better)
    assert first(pipeline, reading, two, ["it is old", "it is bad", "it is odd"]) == (
        Style.BAD,
        "Needs attention: it is old, it is bad and it is odd.",
    )


def test_before_there_is_a_version_the_page_says_how_to_make_one(pipeline, publish):
    page = text(home(pipeline, RegistryReader(pipeline).latest(None)))
    assert "Needs attention: no version is live." in page and "twinspire run PIPELINE" in page
    for said in ("No day has been measured yet", "judged no version yet", "been published yet."):
        assert said in page
    refused = publish(DAYS[0], MEASURED[0], ["the index is bad"])
    page = text(home(pipeline, RegistryReader(pipeline).latest(None)))
    assert "no version is live and the gate refused the newest day." in page
    assert f"See its figures: twinspire show PIPELINE {refused}" in page
    page = text(home(pipeline, Reading(), loading=refused))
    assert f"Starting: No version of circle answers yet: {refused} is being loaded." in page
    assert page.count("The registry has not been read yet.") == 3


def test_a_slow_registry_holds_up_a_page_for_a_moment_only(pipeline, versions, monkeypatch):
    monkeypatch.setattr(home_page, "_PATIENCE", 0.2)
    monkeypatch.setattr(home_page, "_FRESH", 0)
    reader, go, begun = RegistryReader(pipeline), threading.Event(), []
    before = reader.latest(None)
    read = Registry.log

    def slow(registry, known=()):
        begun.append(registry)
        go.wait(20)
        return read(registry, known)

    monkeypatch.setattr(Registry, "log", slow)
    for _ in range(3):
        shown = reader.latest(None)
        assert "has not answered" in shown.error and shown.statuses == before.statuses
    assert len(begun) == 1, "pages that come meanwhile begin no reading"
    go.set()
    assert reader._ended.wait(20) and not reader.latest(None).error


def test_what_was_read_last_is_shown_while_the_registry_cannot_be_read(
    pipeline, versions, monkeypatch
):
    monkeypatch.setattr(home_page, "_FRESH", 0)
    reader = RegistryReader(pipeline)
    reader.latest(None)
    monkeypatch.setattr(Registry, "log", lambda *_: 1 / 0)
    now = after(DAYS[1], 1)
    shown = reader.latest(None)
    assert len(shown.statuses) == 4
    actual = home_page.find_problems(Service(pipeline, Settings()), served(versions[1]), shown, now)
    assert (
        actual[0].problem == "the registry cannot be read" and "ZeroDivisionError" in actual[0].text
    )
    assert actual[0].command == "twinspire doctor PIPELINE"
