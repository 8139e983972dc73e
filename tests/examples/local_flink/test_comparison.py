import json

import pytest

from examples.local_flink.comparison import compare, reasons


def lay(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture
def one(tmp_path):
    report = json.dumps({"rows": 3, "skew": {"median": 1.0}})
    return lay(
        tmp_path / "one", examples__a="1", examples__b="2", statistics__s="3", report_json=report
    )


def test_equal_files_are_counted_by_folder(one):
    found = compare(one, one)
    assert {name: group.equal for name, group in found.items()} == {
        "examples": 2,
        "report.json": 1,
        "statistics": 1,
    }
    assert not any(group.random or group.wrong for group in found.values())


def test_what_differs_is_by_chance_or_wrong(one, tmp_path):
    report = json.dumps({"rows": 3, "skew": {"median": 1.1}})
    other = lay(
        tmp_path / "other", examples__a="1", examples__c="2", statistics__s="4", report_json=report
    )
    found = compare(one, other)
    assert (found["examples"].equal, found["examples"].wrong) == (1, ["examples/b", "examples/c"])
    assert found["statistics"].random == ["statistics/s"] and found["statistics"].wrong == []
    assert reasons(found["statistics"]) == ["sketches of quantiles draw"]
    assert found["report.json"].random == ["report.json"]


def test_a_report_may_differ_in_nothing_but_quantiles(one, tmp_path):
    other = lay(tmp_path / "other", report_json=json.dumps({"rows": 4, "skew": {"median": 1.0}}))
    assert compare(one, other)["report.json"].wrong == ["report.json"]
