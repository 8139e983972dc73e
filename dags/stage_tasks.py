"""A command of Twinspire as a task: its exit code decides what Airflow does."""

import json
import shlex
import sys
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import AssetAlias
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from pipeline_files import Recommender
from telling_others import (
    ReportLink,
    announcement,
    collect_lineage,
    live_version,
    send_gauges,
    tell_of_failure,
    went_live,
)

TRY_AGAIN, NOTHING_TO_DO = 75, 99


class StageFailed(AirflowFailException):
    """A command ended with an exit code for which no retry helps."""

    def __init__(self, text: str, exit_code: int):
        super().__init__(text)
        self.exit_code = exit_code


def task_defaults(recommender: Recommender) -> dict[str, Any]:
    """What all tasks of a recommender's DAGs have: who owns them, how often they are tried again, and
    that somebody is told.
    """
    return {
        "owner": "twinspire",
        "retries": recommender.retries,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(hours=1),
        "on_failure_callback": tell_of_failure(recommender),
    }


class TwinspireOperator(BashOperator):
    """A `twinspire` command: its exit code decides what Airflow does, its last line is a JSON
    object and the XCom.

    Attributes:
      announces: the recommender whose live version it may have changed; empty if it cannot.
      report: address of the report of the version that it made.
    """

    report: str | None = None

    def __init__(self, *, announces: str = "", **kwargs):
        # An alias: a plain outlet would announce each run that ends well, also when what is live
        # has not changed, as in most runs of a backfill.
        outlets = [AssetAlias(f"{announces} versions")] if announces else []
        super().__init__(outlets=outlets, **kwargs)
        self.operator_extra_links = (ReportLink(),) if announces else ()
        self.announces = announces

    def execute(self, context):
        done = self.subprocess_hook.run_command(
            ["bash", "-c", self.bash_command], env=self.get_env(context)
        )
        result = _json(done.output)
        self.report = result.get("report")
        if done.exit_code == TRY_AGAIN:
            raise AirflowException(
                f"{self.task_id} asks to be tried again (exit code {TRY_AGAIN}); the log says why"
            )
        if done.exit_code not in (0, NOTHING_TO_DO):
            raise StageFailed(
                f"{self.task_id} failed with exit code {done.exit_code}: see Triage in the docs",
                done.exit_code,
            )
        if done.exit_code == NOTHING_TO_DO:
            context["ti"].xcom_push(key="return_value", value=result)
            raise AirflowSkipException(f"{self.task_id} has nothing to do; the log says why")
        collect_lineage(self, result)
        send_gauges(self, result)
        if self.announces and went_live(result):
            event = context["outlet_events"][self.outlets[0]]
            event.add(live_version(self.announces), extra=announcement(result))
        return result


def _json(line: str) -> dict:
    """What a command's last line says; of one that was killed it is no JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return {}


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
