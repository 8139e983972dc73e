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
    return lay(tmp_path / "one", examples__a="1", examples__b="2", DONE_json="3", report_json="4")


def test_equal_files_are_counted_by_folder(one):
    found = compare(one, one)
    assert {name: group.equal for name, group in found.items()} == {
        "examples": 2,
        "report.json": 1,
        "DONE.json": 1,
    }
    assert not any(group.random or group.wrong for group in found.values())


def test_what_differs_is_by_chance_or_wrong(one, tmp_path):
    other = lay(
        tmp_path / "other", examples__a="1", examples__c="2", DONE_json="5", report_json="6"
    )
    found = compare(one, other)
    assert (found["examples"].equal, found["examples"].wrong) == (1, ["examples/b", "examples/c"])
    assert found["DONE.json"].random == ["DONE.json"] and found["DONE.json"].wrong == []
    assert reasons(found["DONE.json"]) == ["the time of the commit"]
    assert found["report.json"].wrong == ["report.json"]
