"""Shows training as it goes: a bar in a terminal, a line now and then in a log. Always on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from model.fit import Report

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def shown(days: int) -> Iterator[Report]:
    """Yields what `fit` tells its progress to.

    Args:
      days: days that will be trained on.
    """
    console = Console(stderr=True)
    with _bar(console) if console.is_terminal else _lines(console) as report:
        console.print(f"Training on {days} day{'s' if days > 1 else ''}")
        yield report


@contextmanager
def _bar(console: Console) -> Iterator[Report]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=1, state="")

        def report(day: date, done: int, rows: int, loss: float, rate: float) -> None:
            progress.update(task, description=str(day), completed=done, total=rows, state=_state(loss, rate))

        yield report


@contextmanager
def _lines(console: Console) -> Iterator[Report]:
    told, last = monotonic(), ""

    def report(day: date, done: int, rows: int, loss: float, rate: float) -> None:
        nonlocal told, last
        last = f"{day}  {done / rows:4.0%}  {_state(loss, rate)}"
        if monotonic() - told >= SECONDS_BETWEEN_LINES:
            told = monotonic()
            console.print(last, highlight=False)

    yield report
    console.print(last, highlight=False)


def _state(loss: float, rate: float) -> str:
    return f"loss {loss:.3f}  {rate:,.0f} examples/s"
