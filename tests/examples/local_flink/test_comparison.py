import pytest

from examples.local_flink.comparison import compare, reasons
from examples.local_flink.startup import Step, Subtask, startup


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
    tables = compare(one, one)
    assert {name: group.equal for name, group in tables.items()} == {
        "examples": 2,
        "report.json": 1,
        "DONE.json": 1,
    }
    assert not any(group.random or group.wrong for group in tables.values())


def test_what_differs_is_by_chance_or_wrong(one, tmp_path):
    other = lay(
        tmp_path / "other", examples__a="1", examples__c="2", DONE_json="5", report_json="6"
    )
    tables = compare(one, other)
    assert (tables["examples"].equal, tables["examples"].wrong) == (1, ["examples/b", "examples/c"])
    assert tables["DONE.json"].random == ["DONE.json"] and tables["DONE.json"].wrong == []
    assert reasons(tables["DONE.json"]) == ["the time of the commit"]
    assert tables["report.json"].wrong == ["report.json"]


def test_the_longest_way_of_what_steps_take_with_nothing_to_do():
    steps = {
        "source": Step([], [Subtask(100, 1), Subtask(90, 0)]),
        # Starts a worker: 900 ms after the last of its input. What the other computes is no start-up.
        "read": Step(["source"], [Subtask(5000, 4), Subtask(1000, 0)]),
        # Waits for the slower one, and loads a tower in 700 ms.
        "embed": Step(["read"], [Subtask(9000, 2), Subtask(5700, 0)]),
        # Ends with its input, and starts nothing.
        "write": Step(["embed"], [Subtask(9000, 2), Subtask(9000, 0)]),
        # Nobody is idle: not known.
        "other": Step(["source"], [Subtask(9999, 1), Subtask(9999, 1)]),
    }
    assert startup(steps) == 90 + 900 + 700
    assert startup({}) == 0
