"""The command line: all commands by panel, and what every command does first and last."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperCommand

from twinspire.cli import (
    ask,
    backfill,
    change_versions,
    daily_folders,
    day_steps,
    doctor,
    evaluation,
    export_items,
    forget,
    pipeline_file,
    run_days,
    serve,
    show_days,
    show_version,
    try_file,
    tune,
)
from twinspire_core.config.validation_errors import rule_of
from twinspire_core.errors import TwinspireError, format_message, with_full_stop
from twinspire_core.native_code import never_import
from twinspire_core.storage.disk import explain
from twinspire_core.terminal import console
from twinspire_core.version import __version__

PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start": (
        try_file.try_,
        daily_folders.partition,
        pipeline_file.init,
        pipeline_file.validate,
        pipeline_file.config,
        tune.tune,
        doctor.doctor,
    ),
    "Every day": (
        run_days.run,
        show_days.status,
        show_days.summary,
        backfill.backfill,
        run_days.refresh,
        show_days.notify,
    ),
    "Read": (ask.recommend, ask.similar, serve.serve, export_items.export, evaluation.evaluate),
    "Versions": (
        show_version.versions,
        show_version.show,
        show_version.report,
        change_versions.promote,
        change_versions.rollback,
        change_versions.pin,
        change_versions.prune,
        forget.forget,
    ),
    "For schedulers: the parts of a day's run": (
        day_steps.which_day,
        day_steps.open_day,
        day_steps.await_turn,
        day_steps.features,
        day_steps.train,
        day_steps.measure,
        day_steps.embed,
        day_steps.index,
        day_steps.publish,
        day_steps.close_day,
    ),
}
"""Panels of `--help` with their commands; what a newcomer needs comes first."""

# Commands that need no pandas, which Arrow would load
_READERS = {"recommend", "similar", "serve"}

_ENVIRONMENT = {
    # Without TensorFlow's log lines at import
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # NumPy multiplies with one thread. Searches already run a block on each core, and the threads of BLAS
    # would wait for one another and spin: twice the CPU time, and twice as long
    "OPENBLAS_NUM_THREADS": "1",
    # LightGBM's threads spin, too: on a busy machine, fitting a ranker would take four times the CPU time
    "OMP_WAIT_POLICY": "passive",
    # Polars and Arrow return freed memory at once and get it back page by page, which the system zeroes:
    # let them keep it for ten seconds
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:10000,muzzy_decay_ms:10000",
    "MIMALLOC_PURGE_DELAY": "10000",
}
"""Variables that libraries read when they are imported, unless they are set."""


class _Command(TyperCommand):
    """A command whose errors of options give the rule and the value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                broken = error.__cause__.errors()[0]
                rule, value = rule_of(broken), repr(broken["input"])
                error.message = with_full_stop(rule if value in rule else f"{rule}; found {value}")
            raise


app = typer.Typer(
    name="twinspire",
    help="Retrain, test and publish your recommender every day, from its click logs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Each command imports what it needs when it is called, so that `--help` is fast
for panel, functions in PANELS.items():
    for function in functions:
        # `try` is a keyword in Python, and cannot be a function's name
        name = function.__name__.strip("_").replace("_", "-")
        app.command(name, cls=_Command, rich_help_panel=panel)(function)


@app.callback(invoke_without_command=True)
def _about(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point. Errors that users can mend are printed without a traceback."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if set(sys.argv[1:2]) & _READERS:
        never_import("pandas")
    # New objects between two searches for cycles. Importing and tracing make millions of objects that stay,
    # among which Python's default of 700 would search all the time
    gc.set_threshold(50_000)
    # Airflow stops a task by SIGTERM: an exception has remote jobs cancelled and the day closed
    signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except Exception as e:
        cause = e if isinstance(e, TwinspireError) else explain(e)
        if cause is None:
            raise
        console.print(type(cause).__name__, style="bold red")
        console.print(format_message(cause), soft_wrap=True)
        sys.exit(cause.exit_code)
    finally:
        # Otherwise Python searches all objects for cycles once more before it ends
        gc.freeze()


def _end(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)
