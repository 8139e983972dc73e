"""Days are trained in order: waiting for the earlier ones that are under way."""

import time
from datetime import date, timedelta

from twinspire.runs import run_leases
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import NotItsTurn, UsageError, format_message, in_one_line
from twinspire_core.terminal import console

_POLL_SECONDS = 2.0  # a listing of each earlier day's leases


def await_turn(pipeline: Pipeline, day: date) -> None:
    """Waits until no earlier day is under way, so that days are trained in order.

    Raises:
      NotItsTurn: none of them ended within `train.wait`.
    """
    waited_for: list[date] = []
    deadline = 0.0
    while unfinished := run_leases.unfinished_before(pipeline, day):
        if unfinished != waited_for:
            # One has ended (or another begun), so the others get as long again.
            waited_for = unfinished
            deadline = time.monotonic() + pipeline.train.wait.total_seconds()
            if pipeline.train.wait:
                text = f"{day} waits for its turn. {_under_way(pipeline, unfinished)}"
                console.print(format_message(text), soft_wrap=True)
        if time.monotonic() >= deadline:
            text = f"{_waited_in_vain(pipeline, day, unfinished)} Then run {day} again."
            raise NotItsTurn(text, unfinished)
        _sleep_until(deadline)


def ask_turn(pipeline: Pipeline, day: date, run: str | None, patience: timedelta) -> None:
    """The same for a scheduler that asks again and again, so that no process has to wait all the
    time.

    Args:
      day: the one that waits.
      run: name of its run. When its time is over it is ended, so that it does not keep later days
        waiting in turn.
      patience: how long to wait now, while it is the next in line.

    Raises:
      NotItsTurn: it is not its turn yet. UsageError: for `train.wait`, none of the earlier days
      has ended.
    """
    deadline = time.monotonic() + patience.total_seconds()
    while unfinished := run_leases.unfinished_before(pipeline, day):
        # Written down with the lease, as the processes that ask are too short to know.
        if run and run_leases.waited(pipeline, day, run, unfinished) >= pipeline.train.wait:
            error = UsageError(
                f"{_waited_in_vain(pipeline, day, unfinished)} Then clear this task."
            )
            run_leases.release_day(pipeline, day, run, run_leases.FAILED, in_one_line(error))
            raise error
        # Behind more than one it would only take a slot from those that are nearer.
        if time.monotonic() >= deadline or len(unfinished) > 1:
            text = f"{day} waits for its turn. {_under_way(pipeline, unfinished)}"
            raise NotItsTurn(text, unfinished)
        _sleep_until(deadline)


def _sleep_until(deadline: float) -> None:
    time.sleep(min(_POLL_SECONDS, max(0.1, deadline - time.monotonic())))


def _waited_in_vain(pipeline: Pipeline, day: date, unfinished: list[date]) -> str:
    return (
        f"Days are trained in order, and {day} has waited for earlier ones as long as train.wait = "
        f"{pipeline.train.wait} allows. {_under_way(pipeline, unfinished)}"
    )


def _under_way(pipeline: Pipeline, unfinished: list[date]) -> str:
    runs: list[str] = []
    for day in unfinished:
        for lease in run_leases.open_leases(pipeline, day):
            at = f"{lease.record().at:%Y-%m-%dT%H:%M:%S}"
            runs.append(f"{day} (run {lease.run}, last heard of at {at} UTC)")
    ends = " and ".join(f"`twinspire close-day PIPELINE --date {day}`" for day in unfinished)
    return (
        f"Under way and not ended: {', '.join(runs)}. If nothing runs there any more, end it:"
        f" {ends}."
    )
