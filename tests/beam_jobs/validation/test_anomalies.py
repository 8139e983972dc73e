from datetime import date

import pytest

from beam_jobs import features_stage
from beam_jobs.validation import anomalies
from tests.beam_jobs.validation.made_up_days import day, make, write_day
from twinspire_core.config.feature_kinds import AgeFeature
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.features_report import DayStatistics, StatisticsFile
from twinspire_core.errors import BadData


def check(p, out, earlier=None, when="the day before"):
    """Anomalies of a day compared with another day, whose outputs are given."""
    then = StatisticsFile.read(earlier) if earlier else StatisticsFile()
    return anomalies.check_day(p, out, then, when)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """An ordinary day's output, checked."""
    out = write_day(make(), day(), tmp_path_factory.mktemp("usual"))
    assert check(make(), out) == DayStatistics(rows=400, anomalies=[])
    return out


def test_an_ordinary_day_has_none(usual, tmp_path):
    out = write_day(make(), day(seed=1), tmp_path)
    assert check(make(), out, usual).anomalies == []
    drift = StatisticsFile.read(out).drift
    assert {"device", "item", "tags", "price", "when_hour"} <= drift.keys()
    assert "when_weekday" not in drift, "two days in a row never share a weekday"
    assert all(0 <= distance.value < distance.limit for distance in drift.values())


UNKNOWN = "66.5% of the values were never seen before ('new0', 'new1'), more than 50%"
CASES = {
    "category": ({"device": lambda i: "tv" if i % 5 else "phone"}, "device", "'tv' went from"),
    "number": ({"price": lambda i: 5.0 + i % 3}, "price", "median 6 after 0 on 2017-10-13"),
    "nulls": ({"tags": lambda i: ["red"] if i % 4 == 0 else []}, "tags", "75.0%"),
    "filled": ({"price": lambda i: float(i % 2)}, "price", "missing in 0.0% of the rows after 2"),
    "absent": ({"price": lambda i: None}, "price", "missing in every row"),
    "unknown": ({"device": lambda i: f"new{i % 2}" if i % 3 else "phone"}, "device", UNKNOWN),
}


@pytest.mark.parametrize("name", CASES)
def test_an_anomaly_is_named(name, usual, tmp_path, capsys):
    changed, feature, text = CASES[name]
    out = write_day(make(), day(seed=1, **changed), tmp_path)
    actual = check(make(), out, usual, "2017-10-13").anomalies
    assert any(line.startswith(f"{feature}: ") and text in line for line in actual), actual
    assert f"{feature}: " in capsys.readouterr().err
    assert {line.split(":")[0] for line in actual} == {feature}, "nothing else changed"
    assert StatisticsFile.read(out).anomalies == actual


@pytest.mark.parametrize("rows", [60, 2600])
def test_volume(rows, usual, tmp_path):
    out = write_day(make(), day(rows, seed=1), tmp_path)
    (text,) = check(make(), out, usual).anomalies
    assert text.startswith(f"{rows:,} rows after 400 on the day before: a relative change of 0.85")


def test_fail_stops_and_names_them(usual, tmp_path):
    changed = CASES["category"][0] | CASES["number"][0]
    out = write_day(make(), day(seed=1, **changed), tmp_path)
    why = r"(?s)device: 'tv' went.*price: median.*statistics\.json.*raise statistics\.max_drift"
    with pytest.raises(BadData, match=why):
        check(make(on_anomaly="fail"), out, usual)
    assert len(StatisticsFile.read(out).anomalies) == 3, "also of a day that is refused"


def test_ignore_is_silent(usual, tmp_path, capsys):
    out = write_day(make(), day(seed=1, **CASES["category"][0]), tmp_path)
    assert check(make(on_anomaly="ignore"), out, usual).anomalies
    assert capsys.readouterr().err == ""


def test_few_rows_differ_by_chance(tmp_path):
    few = {"device": lambda i: "tv"}
    first = write_day(make(), day(30), tmp_path / "one")
    check(make(), first)
    second = write_day(make(), day(30, seed=1, **few), tmp_path / "two")
    assert not any("L-infinity" in text for text in check(make(), second, first).anomalies)


def test_values_of_all_earlier_days_are_known(tmp_path):
    days = {"one": ["a", "b"], "two": ["c"], "three": ["b"]}
    before, p = None, make(max_drift=1)
    for name, values in days.items():
        rows = day(100, device=lambda i, values=values: values[i % len(values)])
        out = write_day(p, rows, tmp_path / name)
        actual = check(p, out, before).anomalies
        unknown = [text for text in actual if "never seen" in text]
        assert unknown == (actual if name == "two" else []), name
        before = out
    known = StatisticsFile.read(before).known
    assert known.keys() == {"device", "tags"}, "ids come and go"
    assert known["device"] == ["a", "b", "c"]


def test_a_feature_that_is_new_or_of_another_type_is_not_compared(usual):
    now = StatisticsFile.read(usual)
    price = now.examples["price"].model_copy(update={"type": "string"})
    known = {"price": ["cheap", "dear"]}
    then = StatisticsFile(rows=now.rows, examples={"price": price}, known=known)
    compared = anomalies.ComparedDays(make(), now, then, "the day before")
    assert anomalies.drifts(compared) == {} and anomalies.find(compared, {}) == []


def test_ages_of_a_short_log_are_not_compared(usual):
    p, now = make(), StatisticsFile.read(usual)
    ages = p.model_copy(update={"features": {**p.features, "price": AgeFeature(kind="age")}})
    assert now.examples["price"].max < p.window.count_days - 1
    compared = [anomalies.drifts(anomalies.ComparedDays(one, now, now, "")) for one in (p, ages)]
    assert compared[0].keys() - compared[1].keys() == {"price"}


def test_ids_equal_medians_and_what_chance_explains_are_no_anomaly(tmp_path):
    p = make(max_drift=0.05)

    def compare(name, before, after, n=100):
        first = write_day(p, day(n, **{name: before}), tmp_path / f"{name}{n}a")
        check(p, first)
        second = write_day(p, day(n, **{name: after}), tmp_path / f"{name}{n}b")
        return [t for t in check(p, second, first).anomalies if t.startswith(f"{name}:")]

    assert compare("item", lambda i: "a", lambda i: "b") == []
    assert compare("price", lambda i: 5.0 + (i % 3 - 1), lambda i: 5.0 + 2 * (i % 3 - 1)) == []
    tenth = (lambda i: "tv" if i % 10 < 5 else "phone", lambda i: "tv" if i % 10 < 6 else "phone")
    assert compare("device", *tenth) == []
    (text,) = compare("device", *tenth, n=1000)  # chance makes 2 / sqrt(1000) = .063 of it
    assert "distance 0.100, more than 0.063, which chance" in text and "max_drift = 0.05" in text
    (text,) = compare("device", *tenth, n=2_000)  # .045
    assert text.endswith("distance 0.100, more than max_drift = 0.05")


def test_a_day_is_compared_with_the_newest_earlier_one(usual, tmp_path):
    p = make()
    table = p.pipeline.model_copy(update={"work_root": str(tmp_path / "work")})
    p = p.model_copy(update={"pipeline": table})
    before = attempts.begin(p, date(2024, 3, 9), "features")
    facts = dict.fromkeys(("key", "config", "output", "committed_at"), "")
    facts |= {"mode": "full", "parent": None, "inputs": {}, "summary": {}}
    attempts.commit(attempts.Attempt(uri=before, **facts))
    StatisticsFile.read(usual).write(before)
    ctx = StageContext(pipeline=p, day=date(2024, 3, 10), mode="full", out=usual)
    assert features_stage._statistics(ctx).compared_with.day == date(2024, 3, 9)
    first = StageContext(pipeline=p, day=date(2024, 3, 9), mode="full", out=usual)
    assert features_stage._statistics(first) == DayStatistics(rows=400, anomalies=[])
