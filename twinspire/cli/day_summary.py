"""How a day ended, and how it stands among the others."""

import json
from datetime import date

from twinspire.cli.metric_tables import quality_table
from twinspire.cli.options import Date, PipelineFile, console, open_pipeline, parse_date, print_json
from twinspire.runs import run_leases
from twinspire.runs.lineage import lineage
from twinspire.runs.stages import REFRESH, STAGES
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts as workdir
from twinspire_core.errors import NothingToDo
from twinspire_core.messages import format_message


def summary(pipeline: PipelineFile, date: Date) -> None:
    """Tell how a day ended: its version, its figures beside the baselines', what it cost."""
    p, chosen = open_pipeline(pipeline), parse_date(date)
    attempts = {name: workdir.latest(p, chosen, name) for name in (*STAGES, REFRESH.name)}
    done = {name: attempt.summary for name, attempt in attempts.items() if attempt}
    state = run_leases.state(p, chosen)
    told = {"day": str(chosen), "state": state, "stages": done, **_inheritance(p, chosen)}
    if state == "skipped":
        told["reason"] = _why_skipped(p, chosen)
    if train := attempts["train"]:
        metrics = json.loads(storage.read_bytes(storage.join(train.uri, "metrics.json")))
        console.print(quality_table(metrics, p.evaluation.ks))
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
