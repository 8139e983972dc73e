"""Every anomaly of a day by its name, and what is none."""

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from beam_jobs.validation import anomalies, data_schema, drift, statistics
from tests.beam_jobs.validation.made_up_days import day, make, write_day
from twinspire_core import storage
from twinspire_core.contracts.features_report import DayStatistics
from twinspire_core.errors import BadData


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """An ordinary day's output, checked."""
    out = write_day(make(), day(), tmp_path_factory.mktemp("usual"))
    assert anomalies.check(make(), out) == DayStatistics(rows=400, anomalies=[])
    return out


def report(out):
    text = storage.read_bytes(f"{out}/statistics/{anomalies.FILE}")
    return text_format.Parse(text, anomalies_pb2.Anomalies())


def test_an_ordinary_day_has_none(usual, tmp_path):
    out = write_day(make(), day(seed=1), tmp_path)
    assert anomalies.check(make(), out, usual).anomalies == []
    measured = {
        entry.path.step[0]: entry.drift_measurements[0] for entry in report(out).drift_skew_info
    }
    assert {"device", "item", "tags", "price", "when_hour"} <= measured.keys()
    assert "when_weekday" not in measured, "two days in a row never share one"
    assert all(0 <= m.value < m.threshold for m in measured.values())


KINDS = anomalies_pb2.AnomalyInfo.Type
CASES = {
    "category": (
        {"device": lambda i: "tv" if i % 5 else "phone"},
        "device",
        "COMPARATOR_L_INFTY_HIGH",
        "'tv' went from",
    ),
    "number": (
        {"price": lambda i: 5.0 + i % 3},
        "price",
        "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH",
        "median 6 after 0 on 2017-10-13",
    ),
    "nulls": (
        {"tags": lambda i: ["red"] if i % 4 == 0 else []},
        "tags",
        "FEATURE_TYPE_LOW_FRACTION_PRESENT",
        "75.0%",
    ),
    "filled": (
        {"price": lambda i: float(i % 2)},
        "price",
        "CUSTOM_VALIDATION",
        "missing in 0.0% of the rows after 2",
    ),
    "absent": (
        {"price": lambda i: None},
        "price",
        "FEATURE_TYPE_NOT_PRESENT",
        "missing in every row",
    ),
    "unknown": (
        {"device": lambda i: f"new{i % 2}" if i % 3 else "phone"},
        "device",
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
        "66.5% of the values were never seen before ('new0', 'new1'), more than max_unknown = 0.5",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_anomaly_is_named(name, usual, tmp_path, capsys):
    changed, feature, kind, text = CASES[name]
    out = write_day(make(), day(seed=1, **changed), tmp_path)
    found = anomalies.check(make(), out, usual, "2017-10-13").anomalies
    assert any(line.startswith(f"{feature}: ") and text in line for line in found), found
    assert f"{feature}: " in capsys.readouterr().err
    assert {line.split(":")[0] for line in found} == {feature}, "nothing else changed"
    info = report(out).anomaly_info[feature]
    assert KINDS.Value(kind) in {reason.type for reason in info.reason}
    assert info.severity == anomalies_pb2.AnomalyInfo.WARNING and info.path.step == [feature]


@pytest.mark.parametrize(
    ("rows", "kind"), [(60, "COMPARATOR_LOW_NUM_EXAMPLES"), (2600, "COMPARATOR_HIGH_NUM_EXAMPLES")]
)
def test_volume(rows, kind, usual, tmp_path):
    out = write_day(make(), day(rows, seed=1), tmp_path)
    (text,) = anomalies.check(make(), out, usual).anomalies
    assert text.startswith(
        f"{rows:,} rows after 400 on the day before: a relative change of 0.85, more than"
        " max_volume"
    )
    (reason,) = report(out).dataset_anomaly_info.reason
    assert reason.type == KINDS.Value(kind)


def test_fail_stops_and_names_them(usual, tmp_path):
    changed = {
        name: make_value
        for case in ("category", "number")
        for name, make_value in CASES[case][0].items()
    }
    out = write_day(make(), day(seed=1, **changed), tmp_path)
    with pytest.raises(
        BadData, match=r"(?s)device: 'tv' went.*price: median.*anomalies\.pbtxt.*raise the limit"
    ):
        anomalies.check(make(on_anomaly="fail"), out, usual)
    assert report(out).anomaly_info["device"].severity == anomalies_pb2.AnomalyInfo.ERROR
    assert (
        anomalies.check(
            make(on_anomaly="fail", max_linf=1, max_js=1, max_null_change=1), out, usual
        ).anomalies
        == []
    )


def test_ignore_is_silent(usual, tmp_path, capsys):
    out = write_day(make(), day(seed=1, **CASES["category"][0]), tmp_path)
    assert anomalies.check(make(on_anomaly="ignore"), out, usual).anomalies
    assert capsys.readouterr().err == ""


def test_few_rows_differ_by_chance(tmp_path):
    few = {"device": lambda i: "tv"}
    first = write_day(make(), day(30), tmp_path / "one")
    anomalies.check(make(), first)
    second = write_day(make(), day(30, seed=1, **few), tmp_path / "two")
    assert not any(
        "L-infinity" in text for text in anomalies.check(make(), second, first).anomalies
    )


def test_values_of_all_earlier_days_are_known(tmp_path):
    days = {"one": ["a", "b"], "two": ["c"], "three": ["b"]}
    before, p = None, make(max_unknown=0.4, max_linf=1)
    for name, values in days.items():
        rows = day(100, device=lambda i, values=values: values[i % len(values)])
        out = write_day(p, rows, tmp_path / name)
        found = anomalies.check(p, out, before).anomalies
        assert [text for text in found if "never seen" in text] == (
            [] if name != "two" else found
        ), name
        before = out
    known = data_schema.read(f"{before}/statistics")
    device = next(f for f in known.feature if f.name == "device")
    assert device.string_domain.value == ["a", "b", "c"]
    assert device.distribution_constraints.min_domain_mass == pytest.approx(0.6)


def test_schema_has_types_and_limits(usual):
    found = {f.name: f for f in data_schema.read(f"{usual}/statistics").feature}
    assert found["device"].type == schema_pb2.BYTES and found["price"].type == schema_pb2.FLOAT
    assert (found["when_hour"].int_domain.max, found["when_weekday"].int_domain.max) == (23, 6)
    assert found["recent"].value_count.max == 4 and found["image"].shape.dim[0].size == 2
    assert found["device"].drift_comparator.infinity_norm.threshold == make().statistics.max_linf
    assert (
        found["price"].drift_comparator.jensen_shannon_divergence.threshold
        == make().statistics.max_js
    )
    assert not found["item"].HasField("string_domain"), "ids come and go"


def test_a_feature_that_is_new_is_not_compared(usual, tmp_path):
    earlier = statistics.read(f"{usual}/statistics")
    del earlier.datasets[0].features[:]
    compared = drift.ComparedDays(
        make(), statistics.read(f"{usual}/statistics"), schema_pb2.Schema(), earlier
    )
    assert drift.drifts(compared) == {} and anomalies.find(compared, {}) == []


def test_ids_equal_medians_and_what_chance_explains_are_no_anomaly(tmp_path):
    p = make(max_linf=0.05, max_js=0.001, max_unknown=1, max_null_change=1)

    def compare(name, before, after, n=100):
        first = write_day(p, day(n, **{name: before}), tmp_path / f"{name}{n}a")
        anomalies.check(p, first)
        second = write_day(p, day(n, **{name: after}), tmp_path / f"{name}{n}b")
        return [t for t in anomalies.check(p, second, first).anomalies if t.startswith(f"{name}:")]

    assert compare("item", lambda i: "a", lambda i: "b") == []
    assert compare("price", lambda i: 5.0 + (i % 3 - 1), lambda i: 5.0 + 2 * (i % 3 - 1)) == []
    tenth = (lambda i: "tv" if i % 10 < 5 else "phone", lambda i: "tv" if i % 10 < 6 else "phone")
    assert compare("device", *tenth) == []
    (text,) = compare("device", *tenth, n=1000)  # chance makes 2 / sqrt(1000) = .063 of it
    assert "distance 0.100, more than 0.063, which chance" in text and "max_linf = 0.05" in text
    (text,) = compare("device", *tenth, n=10_000)
    assert text.endswith("distance 0.100, more than max_linf = 0.05")
