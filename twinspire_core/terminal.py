"""What people see at a terminal: one console for all that is said, one for what was asked for, and a
line that moves while something is being done.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any

from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text


class _Console(Console):
    muted = False

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints, unless it is muted; the moving line draws itself by controls."""
        if not self.muted or isinstance(objects[0], Control):
            super().print(*objects, **options)


# Ids, places and commands are shown as they are: no [tag] or :name: in them means anything.
# What is said while the line moves appears above it, because all of it goes through one console.
console = _Console(stderr=True, highlight=False, markup=False, emoji=False)
out = Console(highlight=False, markup=False, emoji=False)

_FRAMES_PER_SECOND = 6


class _Task:
    """What a block does."""

    def __init__(self, text: str) -> None:
        self.text = text


_tasks: list[_Task] = []
"""Of the blocks that are open, the innermost last."""


class _Line:
    """The line: a spinner, the innermost task, the seconds since the outermost began."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._spinner = Spinner("dots")

    def __rich__(self) -> Spinner:
        task = next(reversed(_tasks), None)
        text = task.text if task else ""
        seconds = f" … {monotonic() - self._began:.0f} s"
        self._spinner.text = Text(text + seconds, no_wrap=True, overflow="ellipsis")
        return self._spinner


@contextmanager
def doing(text: str) -> Iterator[Callable[[str], None]]:
    """Shows at a terminal what is being done while the block works; nothing in a pipe or a file.

    A block inside another one shows its own task. Not for a block that asks the user something.

    Args:
      text: such as `reading the logs`.

    Yields:
      What replaces the text.
    """
    task = _Task(text)

    def update(text: str) -> None:
        task.text = text

    with ExitStack() as stack:
        is_outermost = not _tasks
        _tasks.append(task)
        stack.callback(_tasks.remove, task)
        # A terminal of another encoding cannot show the spinner.
        if is_outermost and console.is_terminal and console.encoding.startswith("utf"):
            live = Live(
                _Line(),
                console=console,
                refresh_per_second=_FRAMES_PER_SECOND,
                transient=True,
                # A line for a program must stay on its pipe
                redirect_stdout=sys.stdout.isatty(),
            )
            stack.enter_context(live)
        yield update


@contextmanager
def muted() -> Iterator[None]:
    """Leaves out all that is said while the block works, but for the line that moves."""
    console.muted = True
    try:
        yield
    finally:
        console.muted = False
