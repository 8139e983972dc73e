"""`twinspire backfill`: has Airflow run days that were missed, failed or became stale."""

import os
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twinspire.cli.shared import (
    STATES,
    JsonLine,
    ModeOption,
    PipelineFile,
    PromoteOption,
    days_between,
    end_with_json,
    open_pipeline,
    terminal_table,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.display.table import Cell, Style, Table, counted
from twinspire_core.errors import GateRefused, TwinspireError, UsageError, format_message
from twinspire_core.terminal import console, doing

if TYPE_CHECKING:  # they load an HTTP client
    from twinspire.backfills.airflow_backfills import BackfillPlan
    from twinspire.backfills.airflow_rest import AirflowRest
    from twinspire.backfills.progress_board import Board

Redo = Annotated[
    Literal["none", "failed", "stale", "all"],
    typer.Option(
        help=(
            "Which days to run again. Days without a run are always run. failed: also days that"
            " failed or were refused. stale: also days that `twinspire status` lists as stale."
            " all: every day."
        )
    ),
]
Airflow = Annotated[
    str,
    typer.Option(
        "--airflow", metavar="URL", envvar="TWINSPIRE_AIRFLOW_URL", help="The address of Airflow."
    ),
]


def backfill(
    pipeline: PipelineFile,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="The first day.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last day.")] = None,
    redo: Redo = "none",
    mode: ModeOption = "incremental",
    promote: PromoteOption = "auto",
    at_once: Annotated[
        int,
        typer.Option(
            min=1,
            help="How many days may run `features` at the same time. Days are always trained one by one,"
            " oldest first.",
        ),
    ] = 1,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Show the progress. Ctrl-C does not stop the backfill.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the days that would be run.")
    ] = False,
    unpause: Annotated[
        bool,
        typer.Option(
            "--unpause",
            help="Unpause the DAG after the backfill is created; on SQLite, pause it before. Then its schedule runs,"
            " too.",
        ),
    ] = False,
    cancel: Annotated[
        bool,
        typer.Option("--cancel", help="Cancel the running backfill. Finished stages are kept."),
    ] = False,
    airflow: Airflow = "http://127.0.0.1:8080",
    as_json: JsonLine = False,
) -> None:
    """Have Airflow run a range of days, oldest first.

    The command logs in with TWINSPIRE_AIRFLOW_USER and TWINSPIRE_AIRFLOW_PASSWORD, or with
    TWINSPIRE_AIRFLOW_TOKEN. If Airflow's database is SQLite, use --unpause.

    To continue a cancelled backfill, type the command again with `--redo failed`. To watch a running
    backfill of the same days, type it with `--wait`.

    Exit codes with --wait: 0 if all days succeeded or had no logs, 4 if the gate refused some days, 1 if other days
    failed.
    """
    with doing("loading the libraries"):
        from twinspire.backfills import airflow_backfills
        from twinspire.backfills.airflow_rest import AirflowRest, readable_errors

    p = open_pipeline(pipeline)
    rest = AirflowRest(
        airflow,
        user=os.environ.get("TWINSPIRE_AIRFLOW_USER", ""),
        password=os.environ.get("TWINSPIRE_AIRFLOW_PASSWORD", ""),
        token=os.environ.get("TWINSPIRE_AIRFLOW_TOKEN", ""),
    )
    with closing(rest), readable_errors(rest):
        if cancel:
            with doing("asking Airflow"):
                numbers = airflow_backfills.cancel(rest, p.name)
            done = f"cancelled: {', '.join(map(str, numbers))}" if numbers else "none was running"
            console.print(f"Backfills of {p.name}: {done}.")
            end_with_json({"pipeline": p.name, "cancelled": numbers}, as_json)
            return
        if not (first and last):
            raise UsageError("A backfill needs a first and a last day: give --from and --to.")
        conf = {"mode": mode, "promote": promote}
        days = days_between(first, last)
        number = None
        with doing("asking Airflow"):
            plan = airflow_backfills.plan_backfill(
                rest, p, days[0], days[-1], redo, conf, may_be_paused=unpause
            )
            _print_plan(plan)
            if plan.days and not dry_run:
                number = airflow_backfills.start(rest, p, plan, at_once, unpause=unpause)
        if number is None or not wait:
            _tell_started(rest, plan, number, as_json)
            return
        outcomes = _watch(rest, p, plan)
    console.print(terminal_table(_table(outcomes)))
    end_with_json({"pipeline": p.name, "backfill": number, "days": outcomes}, as_json)
    _raise_if_failed(outcomes)


def _print_plan(plan: "BackfillPlan") -> None:
    """Prints which days are run, and why others are not."""
    for day, why in plan.left_out.items():
        console.print(f"{day} is left out: {why}.", soft_wrap=True)
    if not plan.days:
        console.print("No day is left to run.")
        return
    running = f"Backfill {plan.active} is running: " if plan.active else ""
    days = counted(len(plan.days), "day")
    console.print(f"{running}{days} to run, {plan.days[0]} to {plan.days[-1]}.", soft_wrap=True)


def _tell_started(
    rest: "AirflowRest", plan: "BackfillPlan", number: int | None, as_json: bool
) -> None:
    page = f"{rest.url}/dags/{plan.dag}/backfills"
    if number is not None:
        console.print(
            f"Backfill {number} is running: {page}. To watch it, type the command again with --wait.",
            soft_wrap=True,
        )
    started = {
        "pipeline": plan.dag,
        "backfill": number,
        "page": page,
        "days": [str(day) for day in plan.days],
        "left_out": {str(day): why for day, why in plan.left_out.items()},
    }
    end_with_json(started, as_json)


def _watch(rest: "AirflowRest", pipeline: Pipeline, plan: "BackfillPlan") -> list[dict[str, Any]]:
    """Shows the progress until all days have ended. Returns the outcome of each day."""
    from twinspire.backfills.progress_board import Board

    board = Board(plan.days, pipeline.zone)
    try:
        with doing("watching the backfill") as update:
            for lines in board.watch(rest, plan.dag):
                for line in lines:
                    console.print(line)
                update(board.progress())
    except KeyboardInterrupt:
        console.print(
            "The backfill goes on in Airflow. To watch it again, type the same command. To cancel it:"
            f" {format_message('twinspire backfill PIPELINE --cancel')}",
            soft_wrap=True,
        )
        raise
    return [_outcome(rest, plan.dag, day, board) for day in plan.days]


def _outcome(rest: "AirflowRest", dag: str, day: date, board: "Board") -> dict[str, Any]:
    """The outcome of a day, as Airflow knows it."""
    run = board.runs.get(day, {"dag_run_id": "", "state": "deleted"})
    name = run["dag_run_id"]
    tasks = {stage: task for (of_day, stage), task in board.cells.items() if of_day == day}
    failed = next((stage for stage, task in tasks.items() if task["state"] == "failed"), None)
    outcome = {
        "day": str(day),
        "outcome": "failed",
        "version": None,
        "task": failed,
        "seconds": round(sum(task["duration"] or 0 for task in tasks.values()), 1),
        "page": f"{rest.url}/dags/{dag}/runs/{name}",
    }
    if run["state"] == "success":
        summary = rest.result(dag, name, "summary")
        published = summary.get("stages", {}).get("publish", {})
        outcome |= {"outcome": summary["state"], "version": published.get("version")}
    # The API does not give a task's exit code, but the log names the error
    elif failed == "publish" and "GateRefused" in rest.log(
        dag, name, failed, tasks[failed]["try_number"]
    ):
        outcome["outcome"] = "refused"
    return outcome


_STYLES = STATES | {"published": Style.GOOD}


def _table(outcomes: list[dict[str, Any]]) -> Table:
    rows = [
        [
            one["day"],
            Cell(one["outcome"], _STYLES.get(one["outcome"])),
            one["version"] or one["task"] or "",
            f"{one['seconds']:.0f}",
        ]
        for one in outcomes
    ]
    return Table(head=["day", "outcome", "version or task", "seconds"], rows=rows, names=(0, 1, 2))


def _raise_if_failed(outcomes: list[dict[str, Any]]) -> None:
    if failed := [one for one in outcomes if one["outcome"] == "failed"]:
        first, last = failed[0]["day"], failed[-1]["day"]
        again = f"twinspire backfill PIPELINE --from {first} --to {last} --redo failed"
        raise TwinspireError(
            f"{len(failed)} of {len(outcomes)} days failed, the first is {first} in"
            f" {failed[0]['task'] or 'no task'}: {failed[0]['page']}. Correct the error, then type: {again}"
        )
    if days := ", ".join(one["day"] for one in outcomes if one["outcome"] == "refused"):
        raise GateRefused(
            f"The gate refused the versions of {days}. To see why: twinspire versions PIPELINE"
        )
