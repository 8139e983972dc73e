"""A command of Twinspire as a task: its exit code decides what Airflow does, and others are told."""

import json
import os
import shlex
import subprocess
import sys

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from pipeline_files import Recommender

TRY_AGAIN, NOTHING_TO_DO = 75, 99
TOLD = (1, 2, 3, 4)  # exit codes of stages that have told somebody of their failure themselves


def live_version(name: str) -> Asset:
    """What a recommender's DAG announces: that another version is live. DAGs that are scheduled on
    it start then; the event's `extra` has the version, its day and what it finds.
    """
    return Asset(name=f"{name}/live", uri=f"x-twinspire://{name}/live")


def went_live(result: dict) -> bool:
    """Whether a stage that publishes has changed what is live, and not found it so."""
    made = "done" in (result["status"], result.get("refresh", {}).get("status"))
    return made and bool(result.get("live"))


def announcement(result: dict) -> dict:
    """What is said of a version that went live: which it is, its day, and what it finds for users
    whom it was not trained on.
    """
    gate = result.get("gate") or {}
    found = {gate["metric"]: gate.get("candidate")} if gate.get("metric") else {}
    return {"version": result["version"], "day": result["day"], **found}


class StageFailed(AirflowFailException):
    """A command ended with an exit code for which no retry helps."""

    def __init__(self, text: str, exit_code: int):
        super().__init__(text)
        self.exit_code = exit_code


def tell_of_failure(recommender: Recommender):
    """After a task has failed for good: tells somebody by `notify.command` of the pipeline file,
    unless the command that failed has done so itself.
    """

    def tell(context):
        error = context.get("exception")
        if getattr(error, "exit_code", None) in TOLD:
            return
        found = context["ti"].xcom_pull(task_ids="day") or {}
        day = found.get("day") or context["params"].get("day")
        options = ["--event", "failed", "--stage", context["ti"].task_id, "--reason", str(error)]
        if day:
            options += ["--date", day]
        elif start := context["dag_run"].data_interval_start:
            options += ["--instant", start.isoformat()]
        python = os.environ.get("TWINSPIRE_PYTHON", sys.executable)
        line = [python, "-m", "twinspire", "notify", str(recommender.file), *options]
        subprocess.run(line, check=False, timeout=300)

    return tell


class TwinspireOperator(BashOperator):
    """A `twinspire` command: its exit code decides what Airflow does, its last line is a JSON
    object and the XCom.

    Attributes:
      announces: the recommender whose live version it may have changed; empty if it cannot.
    """

    def __init__(self, *, announces: str = "", **kwargs):
        # An alias: a plain outlet would announce each run that ends well, also when what is live
        # has not changed, as in most runs of a backfill.
        outlets = [AssetAlias(f"{announces} versions")] if announces else []
        super().__init__(outlets=outlets, **kwargs)
        self.announces = announces

    def execute(self, context):
        done = self.subprocess_hook.run_command(
            ["bash", "-c", self.bash_command], env=self.get_env(context)
        )
        if done.exit_code == TRY_AGAIN:
            raise AirflowException(
                f"{self.task_id} asks to be tried again (exit code {TRY_AGAIN}); the log says why"
            )
        if done.exit_code not in (0, NOTHING_TO_DO):
            raise StageFailed(
                f"{self.task_id} failed with exit code {done.exit_code}: see Triage in the docs",
                done.exit_code,
            )
        result = json.loads(done.output)
        if done.exit_code == NOTHING_TO_DO:
            context["ti"].xcom_push(key="return_value", value=result)
            raise AirflowSkipException(f"{self.task_id} has nothing to do; the log says why")
        if self.announces and went_live(result):
            event = context["outlet_events"][self.outlets[0]]
            event.add(live_version(self.announces), extra=announcement(result))
        return result


def command(stage: str, recommender: Recommender, options: str) -> str:
    """A shell line: only standard output's last line comes last, whatever libraries write to
    standard error at exit.
    """
    python = f'"${{TWINSPIRE_PYTHON:-{sys.executable}}}"'
    return (
        f"set -o pipefail; {python} -m twinspire {stage} {shlex.quote(str(recommender.file))}"
        f" {options} | tail -n 1"
    )


def stage(
    task_id: str, recommender: Recommender, options: str, name: str = "", **kwargs
) -> TwinspireOperator:
    """One command, by default the task's name, as one task. To run stages in containers, change the
    operator here.
    """
    line = command(name or task_id, recommender, options)
    return TwinspireOperator(task_id=task_id, bash_command=line, append_env=True, **kwargs)
