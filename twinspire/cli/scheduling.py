"""What a scheduler asks around the stages of a day: which day it is, whether its logs are there,
whether it is its turn, and how it ended.
"""

from datetime import date, timedelta
from typing import Annotated, Any

import typer

from twinspire.cli.metric_tables import quality_table
from twinspire.cli.options import (
    Date,
    PipelineFile,
    Run,
    console,
    json_on_error,
    open_pipeline,
    parse_date,
    print_json,
    resolve_day,
)
from twinspire.runs import day_order, run_leases, runner
from twinspire.runs.lineage import lineage
from twinspire.runs.stages import REFRESH, STAGES
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.errors import NothingToDo
from twinspire_core.messages import format_message


def day(
    pipeline: PipelineFile,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="The day; yesterday by default.")
    ] = None,
    instant: Annotated[
        str | None,
        typer.Option(
            metavar="ISO", help="A moment, as 2017-10-16T03:00:00+00:00, that lies in the day."
        ),
    ] = None,
    turn: Annotated[
        bool,
        typer.Option(
            help="Only tell whether all earlier days have ended: 0; 75 not yet; 2 after train.wait."
        ),
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="With --turn: wait so long while one earlier day is left.",
        ),
    ] = 0,
    close: Annotated[
        bool,
        typer.Option(
            help=(
                "End what is open of the day, or only --run (on any day), so that later days go on."
            )
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Without: only tell which day it is; open nothing."
        ),
    ] = True,
    run: Run = None,
) -> None:
    """Resolve the day of a run, check that its logs are there, and open it.

    Exit codes: 75 the logs are late, 99 the day is empty, 3 the day is suspiciously small.
    """
    with json_on_error("day") as told:
        p = open_pipeline(pipeline)
        if close and run and not (date or instant):
            print_json({"closed": run_leases.end_runs(p, attempts.days(p), run)})
            return
        chosen = resolve_day(p, date, instant)
        told["day"], found = str(chosen), dict[str, Any]()
        if close:
            found["closed"] = run_leases.end_runs(p, [chosen], run)
        elif turn:
            day_order.ask_turn(p, chosen, run, timedelta(seconds=wait))
        elif check:
            found["input"] = runner.check_source(p, chosen, run)
        print_json({"day": str(chosen), "state": run_leases.state(p, chosen), **found})


def summary(pipeline: PipelineFile, date: Date) -> None:
    """Tell how a day ended: its version, its figures beside the baselines', what it cost."""
    p, chosen = open_pipeline(pipeline), parse_date(date)
    newest = {name: attempts.latest(p, chosen, name) for name in (*STAGES, REFRESH.name)}
    done = {name: attempt.summary for name, attempt in newest.items() if attempt}
    state = run_leases.state(p, chosen)
    told = {"day": str(chosen), "state": state, "stages": done, **_inheritance(p, chosen)}
    if state == "skipped":
        told["reason"] = _why_skipped(p, chosen)
    if train := newest["train"]:
        console.print(quality_table(DayMetrics.read(train.uri), p.evaluation.ks))
    print_json(told)


def _why_skipped(pipeline: Pipeline, day: date) -> str:
    from beam_jobs.ingest import day_files

    try:
        day_files.check(pipeline, day)
    except NothingToDo as e:
        return str(e)
    return "The day had no logs when it was run; now it has: run it again."


def _inheritance(pipeline: Pipeline, day: date) -> dict[str, list[dict[str, str]]]:
    """What JSON holds of the day's line of parents; people are told what it means."""
    found = lineage(pipeline, day)
    again = {"command": found.later.told("PIPELINE")["command"]}
    told = {
        "gaps": [gap.told("PIPELINE") for gap in found.gaps],
        "not_inherited": [gap.told("PIPELINE") | again for gap in found.filled],
        "not_inherited_by": [gap.told("PIPELINE") for gap in found.heirs],
    }
    meaning = {
        "gaps": (
            f"there are logs and no accepted version, so {day} did not learn from them. To fill"
            " the gap"
        ),
        "not_inherited": (
            f"filled in after {day} had run, which did not learn from them. To train on from them"
        ),
        "not_inherited_by": (
            f"run before {day} was filled in, and did not learn from it. To train on from it"
        ),
    }
    for name, gaps in told.items():
        for gap in gaps:
            gap["command"] = format_message(gap["command"])
            line = f"{gap['from']} to {gap['to']}: {meaning[name]}: {gap['command']}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return told
