"""The terminal: a console for messages, one for what the user asked for, and a progress line that is
shown while something is being done.
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
        """Prints, unless the console is muted; controls, which draw the progress line, always pass."""
        if not self.muted or isinstance(objects[0], Control):
            super().print(*objects, **options)


# Without markup, so that a [tag] or :name: in ids, paths and commands is shown as it is. Messages and the
# progress line share one console, so that messages appear above the line.
console = _Console(stderr=True, highlight=False, markup=False, emoji=False)
out = Console(highlight=False, markup=False, emoji=False)

_FRAMES_PER_SECOND = 6


# What the open blocks do, the innermost last.
_tasks: list[Text] = []


class _Line:
    """The progress line: a spinner, the innermost task, the seconds since the outermost began."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._spinner = Spinner("dots")

    def __rich__(self) -> Spinner:
        task = _tasks[-1].plain if _tasks else ""
        seconds = f" … {monotonic() - self._began:.0f} s"
        self._spinner.text = Text(task + seconds, no_wrap=True, overflow="ellipsis")
        return self._spinner


@contextmanager
def doing(text: str) -> Iterator[Callable[[str], None]]:
    """Shows at a terminal what is being done while the block works; nothing in a pipe or a file.

    A block inside another one shows its own task. Not for a block that asks the user something.

    Args:
      text: the task, such as `reading the logs`.

    Yields:
      A function that replaces the text.
    """
    task = Text(text)

    def update(text: str) -> None:
        task.plain = text

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
                # Standard output may be a pipe to a program. Rich would move its lines to the terminal.
                redirect_stdout=sys.stdout.isatty(),
            )
            stack.enter_context(live)
        yield update


@contextmanager
def muted() -> Iterator[None]:
    """Shows no messages while the block works; the progress line is still shown."""
    console.muted = True
    try:
        yield
    finally:
        console.muted = False
