"""Days that were missed, failed or became stale, run by Airflow."""

import os
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from twinspire.cli.options import (
    JsonLine,
    ModeOption,
    PipelineFile,
    PromoteOption,
    console,
    end_with_json,
    open_pipeline,
    parse_date,
)
from twinspire_core.errors import UsageError
from twinspire_core.messages import format_message
from twinspire_core.terminal import doing

if TYPE_CHECKING:  # they load an HTTP client
    from twinspire.backfills.airflow_rest import AirflowRest
    from twinspire.backfills.plan import BackfillPlan

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
    skipped. Airflow's page shows how the days go, and `twinspire status` what became of each.
    """
    with doing("loading the libraries"):
        from twinspire.backfills import plan as plans
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
                numbers = plans.cancel(rest, p.name)
            told = f"cancelled: {', '.join(map(str, numbers))}" if numbers else "none was under way"
            console.print(f"Backfills of {p.name}: {told}.", highlight=False)
            end_with_json({"pipeline": p.name, "cancelled": numbers}, as_json)
            return
        if not (first and last):
            raise UsageError("A backfill has a first and a last day: give --from and --to.")
        conf = {"mode": mode, "promote": promote}
        days = (parse_date(first), parse_date(last))
        number: int | None = None
        with doing("asking Airflow"):
            plan = plans.plan_backfill(rest, p, *days, redo, conf, may_be_paused=unpause)
            _tell(plan)
            if plan.days and not dry_run:
                number = plans.start(rest, p, plan, at_once)
                if unpause:
                    rest.unpause(p.name)
        _tell_started(rest, plan, number, as_json)


def _tell(plan: "BackfillPlan") -> None:
    """Says which days are run, and why others are not."""
    for day, why in plan.left_out.items():
        console.print(f"{day} is left out: {why}.", highlight=False, soft_wrap=True)
    if not plan.days:
        console.print("No day is left to run.")
        return
    days = f"{len(plan.days)} days" if len(plan.days) > 1 else "1 day"
    console.print(
        f"{days} to run, {plan.days[0]} to {plan.days[-1]}.", highlight=False, soft_wrap=True
    )


def _tell_started(
    rest: "AirflowRest", plan: "BackfillPlan", number: int | None, as_json: bool
) -> None:
    page = f"{rest.url}/dags/{plan.dag}/backfills"
    if number is not None:
        console.print(
            f"Backfill {number} is under way: {page}. What became of each day:"
            f" {format_message('twinspire status PIPELINE')}",
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
