"""How much of a Flink job is start-up: what its steps take where they are given nothing to do."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from examples.local_flink.rest import Rest


class Subtask(NamedTuple):
    """One worker's part of a step.

    Attributes:
      end: milliseconds since the job's start.
      elements: how many it got.
    """

    end: int
    elements: int


class Step(NamedTuple):
    """A step of a job.

    Attributes:
      inputs: names of the steps that it takes elements from.
      subtasks: one of each worker.
    """

    inputs: Sequence[str]
    subtasks: Sequence[Subtask]


def startup(steps: Mapping[str, Step]) -> int:
    """Milliseconds of start-up on the longest way through a job, at least.

    A subtask that gets nothing waits for its inputs to end, has a worker started with all that the
    step loads, and ends: the latter two are start-up. It is known only of steps with such a
    subtask, and true of jobs whose steps all start with the job (`embed`, and not `features`, whose
    steps wait for what others know).
    """
    found: dict[str, int] = {}

    def up_to(name: str) -> int:
        if name not in found:
            step = steps[name]
            found[name] = max(map(up_to, step.inputs), default=0) + _own(step, steps)
        return found[name]

    return max(map(up_to, steps), default=0)


def _own(step: Step, steps: Mapping[str, Step]) -> int:
    given = [subtask.end for name in step.inputs for subtask in steps[name].subtasks]
    idle = [subtask.end for subtask in step.subtasks if not subtask.elements]
    return max(0, min(idle) - max(given, default=0)) if idle else 0


def read_steps(rest: Rest, job: str) -> dict[str, Step]:
    """The steps of a job that has ended, as Flink tells of it.

    Args:
      rest: Flink.
      job: its id.
    """
    told = rest.ask(f"jobs/{job}")
    steps = {}
    for node in told["plan"]["nodes"]:
        subtasks = [
            Subtask(
                end=one["start-time"] + one["duration"] - told["start-time"],
                elements=one["metrics"]["read-records"],
            )
            for one in rest.ask(f"jobs/{job}/vertices/{node['id']}")["subtasks"]
        ]
        inputs = [source["id"] for source in node.get("inputs", [])]
        steps[node["id"]] = Step(inputs, subtasks)
    return steps
