from examples.local_flink.startup import Step, Subtask, startup


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
