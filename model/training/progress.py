"""Shows training as it goes, on standard error: a line that moves, or one now and then in a log.
And warns of training that can hardly have learned anything.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, log
from time import monotonic

from model.losses.sampling_probability import StreamingFrequency
from model.training.loop import LoopResult, Report
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.terminal import console, doing

SECONDS_BETWEEN_LINES = 5.0
FULL_SHARE = 0.2
"""Share of the frequency estimate's buckets in use from which on a warning is given."""
FEW_STEPS = 50
"""Steps from scratch below which vectors stay near where they began."""


def few_steps(result: LoopResult, settings: TrainConfig) -> str | None:
    """A warning of training from scratch that was over too soon to learn much; None if it was
    not.
    """
    warm_started = result.step > result.steps
    if warm_started or result.steps >= FEW_STEPS:
        return None
    rows = result.rows // settings.epochs
    return (
        f"Training from scratch takes {FEW_STEPS} steps at the least, and better some hundreds;"
        f" these were {result.steps}: {rows:,} examples, {settings.epochs} times, in batches of"
        f" {settings.batch_size}. Expect poor lists. Lower train.batch_size, raise train.epochs, or"
        " train on more days: window.train_days."
    )


def full_buckets(frequency: StreamingFrequency) -> str | None:
    """A warning of a frequency estimate whose items share buckets; None if it has room."""
    share = frequency.filled()
    if share < FULL_SHARE:
        return None
    # n items thrown into b buckets leave a share of e^(-n / b) empty.
    items = -frequency.buckets * log(max(1 - share, 1 / frequency.buckets))
    return (
        "The frequency estimate needs 5 times as many buckets as there are items, or many look"
        f" more frequent than they are; {share:.0%} of its {frequency.buckets:,} are in use, by"
        f" about {items:,.0f} items. Set train.frequency.buckets to"
        f" {ceil(items / 20_000) * 100_000:,} or more; what was learned is kept."
    )


def warn(text: str) -> None:
    """Prints a warning."""
    console.print(f"Warning: {text}", soft_wrap=True)


@contextmanager
def shown(days: int) -> Iterator[Report]:
    """Yields what the training loop reports its progress to.

    Args:
      days: days that will be trained on.
    """
    console.print(f"Training on {days} day{'s' if days > 1 else ''}")
    printed_at = monotonic()
    line = ""
    with doing("training") as update:

        def report(day: str, done: int, rows: int, loss: float, rate: float) -> None:
            nonlocal printed_at, line
            line = f"{day}  {done / rows:4.0%}  loss {loss:.3f}  {rate:,.0f} examples/s"
            update(line)
            if not console.is_terminal and monotonic() - printed_at >= SECONDS_BETWEEN_LINES:
                printed_at = monotonic()
                console.print(line)

        yield report
    console.print(line)
