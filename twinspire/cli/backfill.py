"""Days that were missed, failed or became stale, run by Airflow."""

import os
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.live import Live

from twinspire.cli.options import (
    JsonLine,
    ModeOption,
    PipelineFile,
    PromoteOption,
    open_pipeline,
    parse_date,
)
from twinspire.cli.output import end_with_json, terminal_table
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.display.table import Cell, Style, Table
from twinspire_core.errors import GateRefused, TwinspireError, UsageError, format_message
from twinspire_core.terminal import console, doing

if TYPE_CHECKING:  # they load an HTTP client
    from twinspire.backfills.airflow_backfills import BackfillPlan
    from twinspire.backfills.airflow_rest import AirflowRest
    from twinspire.backfills.progress_board import Board

_STYLES = {
    "published": Style.GOOD,
    "failed": Style.BAD,
    "refused": Style.BAD,
    "skipped": Style.WARNING,
}
Redo = Annotated[
    Literal["none", "failed", "stale", "all"],
    typer.Option(
        help="Which days that have a run get another one, besides those that have none: failed or"
        " refused ones; stale ones, as `twinspire status` lists them; all."
    ),
]
Airflow = Annotated[
    str,
    typer.Option(
        "--airflow", metavar="URL", envvar="TWINSPIRE_AIRFLOW_URL", help="Where Airflow is."
    ),
]


def backfill(
    pipeline: PipelineFile,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First of the days.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Last of the days, included.")
    ] = None,
    redo: Redo = "none",
    mode: ModeOption = "incremental",
    promote: PromoteOption = "auto",
    at_once: Annotated[
        int,
        typer.Option(
            min=1,
            help="Days whose features are made at once. They are trained one after the other, oldest"
            " first, in any case.",
        ),
    ] = 1,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show how it goes until it ends. Ctrl-C leaves it be.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which days would be run.")
    ] = False,
    unpause: Annotated[
        bool,
        typer.Option(
            "--unpause",
            help="Unpause the DAG when the backfill is created. Its schedule then runs, too.",
        ),
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the one under way. What is done is kept.")
    ] = False,
    airflow: Airflow = "http://127.0.0.1:8080",
    as_json: JsonLine = False,
) -> None:
    """Have Airflow run a range of days, oldest first.

    It logs in with TWINSPIRE_AIRFLOW_USER and TWINSPIRE_AIRFLOW_PASSWORD, or the token in
    TWINSPIRE_AIRFLOW_TOKEN. On SQLite the DAG must be paused when the backfill is created: use
    --unpause.

    After a cancelled backfill, type the command again with `--redo failed`: finished stages are
    skipped. While a backfill of the same days is running, `--wait` watches that one.

    With --wait the exit code is 0 when all days ended well or had no logs, 4 when the gate refused
    some, 1 when others failed.
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
            told = f"cancelled: {', '.join(map(str, numbers))}" if numbers else "none was under way"
            console.print(f"Backfills of {p.name}: {told}.", highlight=False)
            end_with_json({"pipeline": p.name, "cancelled": numbers}, as_json)
            return
        if not (first and last):
            raise UsageError("A backfill has a first and a last day: give --from and --to.")
        conf = {"mode": mode, "promote": promote}
        days = (parse_date(first), parse_date(last))
        number = None
        with doing("asking Airflow"):
            plan = airflow_backfills.plan_backfill(
                rest, p, *days, redo, conf, may_be_paused=unpause
            )
            _tell(plan)
            if plan.days and not dry_run:
                number = airflow_backfills.start(rest, p, plan, at_once)
                if unpause:
                    rest.unpause(p.name)
        if number is None or not wait:
            _tell_started(rest, plan, number, as_json)
            return
        outcomes = _watch(rest, p, plan)
    console.print(terminal_table(_table(outcomes)))
    end_with_json({"pipeline": p.name, "backfill": number, "days": outcomes}, as_json)
    _raise_if_failed(outcomes)


def _tell(plan: "BackfillPlan") -> None:
    """Says which days are run, and why others are not."""
    for day, why in plan.left_out.items():
        console.print(f"{day} is left out: {why}.", highlight=False, soft_wrap=True)
    if not plan.days:
        console.print("No day is left to run.")
        return
    begun = f"Backfill {plan.active} is under way: " if plan.active else ""
    days = f"{len(plan.days)} days" if len(plan.days) > 1 else "1 day"
    console.print(
        f"{begun}{days} to run, {plan.days[0]} to {plan.days[-1]}.", highlight=False, soft_wrap=True
    )


def _tell_started(
    rest: "AirflowRest", plan: "BackfillPlan", number: int | None, as_json: bool
) -> None:
    page = f"{rest.url}/dags/{plan.dag}/backfills"
    if number is not None:
        console.print(
            f"Backfill {number} is under way: {page}. To watch it, type the command again with"
            " --wait.",
            highlight=False,
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
    """Shows how the days go until all have ended: what became of each."""
    from twinspire.backfills.progress_board import ENDED, STAGES, Board

    board = Board(plan.days, pipeline.zone)
    live = Live(board, console=console, refresh_per_second=4, transient=not console.is_terminal)
    try:
        with live:
            for ended in board.watch(rest, plan.dag):
                for day, stage, cell in ended:
                    if stage in STAGES and cell.state in ENDED and not console.is_terminal:
                        told = f"{cell.state} in {cell.seconds:.0f} s"
                        live.console.print(f"{board.elapsed()} {day} {stage}: {told}")
    except KeyboardInterrupt:
        console.print(
            "The backfill goes on in Airflow. To watch it again, type the same command; to end it:"
            f" {format_message('twinspire backfill PIPELINE --cancel')}",
            soft_wrap=True,
        )
        raise
    return [_outcome(rest, plan.dag, day, board) for day in plan.days]


def _outcome(rest: "AirflowRest", dag: str, day: date, board: "Board") -> dict[str, Any]:
    """What became of a day, as Airflow has it."""
    run = board.runs.get(day, {"dag_run_id": "", "state": "deleted"})
    name = run["dag_run_id"]
    cells = {stage: cell for (of_day, stage), cell in board.cells.items() if of_day == day}
    failed = next((stage for stage, cell in cells.items() if cell.state == "failed"), None)
    outcome = {
        "day": str(day),
        "outcome": "failed",
        "version": None,
        "task": failed,
        "seconds": round(sum(cell.seconds for cell in cells.values()), 1),
        "page": f"{rest.url}/dags/{dag}/runs/{name}",
    }
    if run["state"] == "success":
        summary = rest.result(dag, name, "summary")
        published = summary.get("stages", {}).get("publish", {})
        outcome |= {"outcome": summary["state"], "version": published.get("version")}
    elif failed == "publish" and "GateRefused" in rest.log(
        dag, name, failed, cells[failed].attempt
    ):
        outcome["outcome"] = "refused"
    return outcome


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
    of_kind = {kind: [one for one in outcomes if one["outcome"] == kind] for kind in _STYLES}
    if failed := of_kind["failed"]:
        first, last = failed[0]["day"], failed[-1]["day"]
        again = f"twinspire backfill PIPELINE --from {first} --to {last} --redo failed"
        raise TwinspireError(
            f"{len(failed)} of {len(outcomes)} days failed, first {first} in"
            f" {failed[0]['task'] or 'no task'}: {failed[0]['page']}. When it is mended: {again}"
        )
    if refused := of_kind["refused"]:
        listed = ", ".join(one["day"] for one in refused)
        raise GateRefused(
            f"The gate refused the versions of {listed}. Why: twinspire versions PIPELINE"
        )
