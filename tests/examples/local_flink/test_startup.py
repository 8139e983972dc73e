from examples.local_flink.startup import Step, Subtask, read_steps, startup

TOLD = {
    "jobs/j": {
        "start-time": 1000,
        "plan": {"nodes": [{"id": "b", "inputs": [{"id": "a"}]}, {"id": "a"}]},
    },
    "jobs/j/vertices/a": [(1010, 20, 1)],
    "jobs/j/vertices/b": [(1015, 985, 3), (1005, 895, 0)],
}


class Told:
    """Flink's answers: subtasks are (start, duration, elements)."""

    def ask(self, path):
        found = TOLD[path]
        if isinstance(found, dict):
            return found
        names = ("start-time", "duration")
        return {
            "subtasks": [
                dict(zip(names, times, strict=True)) | {"metrics": {"read-records": elements}}
                for *times, elements in found
            ]
        }


def test_steps_are_read_as_flink_tells_them():
    assert read_steps(Told(), "j") == {
        "a": Step([], [Subtask(30, 1)]),
        "b": Step(["a"], [Subtask(1000, 3), Subtask(900, 0)]),
    }


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
