"""Runs a backfill in a local Airflow and shows how it goes."""

from dataclasses import replace
from datetime import date

import httpx
from rich.console import Console
from rich.live import Live

from examples.local_airflow.server import LocalAirflow
from index_builder.registry.registry import Registry
from twinspire.backfills.airflow_backfills import start_backfill
from twinspire.backfills.airflow_rest import AirflowRest, readable_errors
from twinspire.backfills.progress_board import STAGES, Board, Cell
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import TwinspireError


class RunFailed(TwinspireError):
    """A task failed; the message has the end of its log."""


def wait_for(airflow: LocalAirflow, console: Console) -> AirflowRest:
    """Waits for Airflow to be up, telling how long it takes."""
    with console.status("starting Airflow …") as status:
        rest = airflow.wait_until_healthy(
            lambda s: status.update(f"starting Airflow … {s:.0f} s (about 20 s)")
        )
    console.print(
        f"Airflow runs at {airflow.url}, user {airflow.user}, password {airflow.password}"
    )
    return rest


def run(
    airflow: LocalAirflow, rest: AirflowRest, pipeline: Pipeline, days: list[date], console: Console
) -> None:
    """Runs the days oldest first and returns when all have ended well.

    Raises:
      RunFailed: a task failed; says which, with the end of its log and where it lies.
      TryAgain: Airflow does not work.
    """
    with readable_errors(rest):
        _run(airflow, rest, pipeline, days, console)


def _run(
    airflow: LocalAirflow, rest: AirflowRest, pipeline: Pipeline, days: list[date], console: Console
) -> None:
    dag = pipeline.name
    rest.wait_for_dag(dag)
    # Airflow pauses new DAGs: `start_backfill` says why this comes before unpausing.
    start_backfill(rest, dag, days[0], days[-1], zone=pipeline.zone, again="completed")
    rest.unpause(dag)
    board = Board(days, pipeline.zone)
    with Live(
        board, console=console, refresh_per_second=4, transient=not console.is_terminal
    ) as live:
        for ended in board.watch(rest, dag):
            for day, stage, cell in ended:
                if stage in STAGES and cell.state == "success":
                    found = rest.result(dag, cell.run, stage)["status"] == "already done"
                    board.cells[day, stage] = replace(cell, found=found)
                if stage in STAGES and not console.is_terminal:
                    live.console.print(
                        f"{board.elapsed()} {day} {stage}: {_outcome(board.cells[day, stage])}"
                    )
            if failed := _unexpected(board, pipeline):
                break
    if failed:
        raise RunFailed(_what_failed(airflow, rest, dag, *failed))


def _outcome(cell: Cell) -> str:
    return "was done before" if cell.found else f"{cell.state} in {cell.seconds:.0f} s"


def _unexpected(board: Board, pipeline: Pipeline) -> tuple[date, str, Cell] | None:
    """The first stage that failed otherwise than by the gate's refusal, after which the days go
    on.
    """
    if not (failed := board.failed()):
        return None
    refused = {
        s.date
        for s in Registry(pipeline.registry.root, pipeline.name).statuses()
        if s.status == "refused"
    }
    return next((f for f in failed if not (f[1] == "publish" and f[0] in refused)), None)


def _what_failed(
    airflow: LocalAirflow, rest: AirflowRest, dag: str, day: date, stage: str, cell: Cell
) -> str:
    log = airflow.home / "logs" / f"dag_id={dag}" / f"run_id={cell.run}" / f"task_id={stage}"
    try:
        lines = rest.log(dag, cell.run, stage, cell.attempt).splitlines()
    except httpx.HTTPError as e:
        lines = [f"(Airflow could not be asked for it: {e})"]
    end = "\n".join(line for line in lines[-40:] if not line.startswith("::"))
    return (
        f"{stage} of {day} failed. The end of its log:\n\n{end}\n\nAll of it:"
        f" {log}/attempt={cell.attempt}.log"
    )
