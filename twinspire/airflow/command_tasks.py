"""A command of Twinspire as a task: its exit code decides what Airflow does."""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import AssetAlias, BaseOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)

from twinspire.airflow.pipeline_files import Recommender
from twinspire.airflow.telling_others import (
    ReportLink,
    announcement,
    collect_lineage,
    last_lines,
    live_version,
    send_gauges,
    tell_of_failure,
    went_live,
)

TRY_AGAIN, NOTHING_TO_DO = 75, 99
# A run waits so long before it asks again whether it is its turn, for each earlier day
NEXT_QUESTION = timedelta(seconds=10)
# By SIGKILL or SIGTERM: the machine is out of memory, or is shut down
KILLED = (137, 143)


class StageFailed(AirflowFailException):
    """A command ended with an exit code after which a retry cannot help."""

    def __init__(self, text: str, exit_code: int):
        super().__init__(text)
        self.exit_code = exit_code


def shared_arguments(
    recommender: Recommender, kind: str, given: Mapping[str, Any], **of_tasks: Any
) -> dict[str, Any]:
    """Arguments of a recommender's DAG: tags, and owner, retries and notification of its tasks.

    Args:
      kind: the tag that tells daily runs from upkeep.
      given: arguments of Airflow's `DAG`. Those of its tasks win over ours, but for callbacks of failures:
        ours is called before.
      **of_tasks: further arguments of the tasks of this DAG.
    """
    theirs = given.get("default_args") or {}
    ours = {
        "owner": "twinspire",
        "retries": recommender.retries,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(hours=1),
        "on_failure_callback": tell_of_failure(recommender),
    }
    defaults = {**ours, **of_tasks, **theirs}
    if callbacks := theirs.get("on_failure_callback"):
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        defaults["on_failure_callback"] = [ours["on_failure_callback"], *callbacks]
    tags = ["twinspire", kind, *(given.get("tags") or ())]
    return {**given, "tags": tags, "default_args": defaults}


class TwinspireOperator(BashOperator):
    """A `twinspire` command. Its exit code decides what Airflow does. Its last line, a JSON object, is the
    XCom.

    Attributes:
      report: address of the report of the version that it made.
    """

    report: str | None = None
    operator_extra_links = (ReportLink(),)

    def execute(self, context: Any) -> dict[str, Any]:
        """Runs the command, and ends as its exit code says."""
        done = self.subprocess_hook.run_command(
            ["bash", "-c", self.bash_command], env=self.get_env(context)
        )
        return conclude(self, context, done.exit_code, _json(done.output))


def conclude(task: Any, context: Any, exit_code: int, result: dict[str, Any]) -> dict[str, Any]:
    """Turns the end of a command into what Airflow does next, and reports it.

    Args:
      task: the operator, with the attribute `report`.
      context: Airflow's, of this try.
      exit_code: what the command ended with.
      result: the JSON object on the command's last line.

    Returns: the result, which becomes the XCom.

    Raises:
      AirflowException: the command asks to be tried again, or was killed in its first try.
      AirflowRescheduleException: an earlier day goes first. The task gives its slot back, and this does
        not count as a retry.
      StageFailed: a retry cannot help.
      AirflowSkipException: there was nothing to do.
    """
    task.report = result.get("report")
    for line in last_lines(result):
        task.log.info(line)
    if exit_code == TRY_AGAIN and result.get("status") == "NotItsTurn":
        again = NEXT_QUESTION * len(result["waits_for"])
        raise AirflowRescheduleException(datetime.now(UTC) + again)
    why = result.get("reason") or "the log says why"
    if exit_code == TRY_AGAIN:
        raise AirflowException(
            f"{task.task_id} asks to be tried again (exit code {TRY_AGAIN}): {why}"
        )
    if exit_code in KILLED and context["ti"].try_number == 1:
        raise AirflowException(
            f"{task.task_id} was killed (exit code {exit_code}): tried again, but only once"
        )
    if exit_code not in (0, NOTHING_TO_DO):
        raise StageFailed(
            f"{task.task_id} failed with exit code {exit_code} (see Triage in the docs): {why}",
            exit_code,
        )
    if exit_code == NOTHING_TO_DO:
        context["ti"].xcom_push(key="return_value", value=result)
        raise AirflowSkipException(f"{task.task_id} has nothing to do: {why}")
    collect_lineage(task, result)
    send_gauges(task, result)
    if task.outlets and went_live(result):
        event = context["outlet_events"][task.outlets[0]]
        event.add(live_version(task.dag_id), extra=announcement(result))
    return result


def _json(line: str) -> dict[str, Any]:
    """A command's last line."""
    try:
        return json.loads(line)
    except ValueError:  # a command that was killed has printed no JSON
        return {}


def pod_template() -> str | None:
    """The file of the pod in which stages run; None if they run on Airflow's machine."""
    return os.environ.get("TWINSPIRE_POD") or None


def command(stage: str, recommender: Recommender, options: str) -> str:
    """A shell line that prints the last line of a command's standard output."""
    # A pod's image has Python at another path than Airflow
    python = "python" if pod_template() else sys.executable
    return (
        f'set -o pipefail; "${{TWINSPIRE_PYTHON:-{python}}}" -m twinspire {stage}'
        f" {shlex.quote(str(recommender.file))} {options} | tail -n 1"
    )


def stage(
    task_id: str,
    recommender: Recommender,
    options: str,
    name: str = "",
    before: str = "",
    publishes: bool = False,
    **kwargs: Any,
) -> BaseOperator:
    """One command as one task: on Airflow's machine, or in a pod if TWINSPIRE_POD is set.

    Args:
      options: of the command, as the shell reads them.
      name: of the command; by default that of the task.
      before: shell code that runs before the command.
      publishes: whether it may change the live version.
      **kwargs: arguments of the operator, such as `trigger_rule`.
    """
    line = before + command(name or task_id, recommender, options)
    if publishes:
        # An alias, because a plain outlet announces every run that succeeds. Most runs of a backfill do not
        # change the live version
        kwargs["outlets"] = [AssetAlias(f"{recommender.name} versions")]
    if template := pod_template():
        from twinspire.airflow.stage_pods import TwinspirePod

        return TwinspirePod(task_id=task_id, bash_command=line, template=template, **kwargs)
    return TwinspireOperator(task_id=task_id, bash_command=line, append_env=True, **kwargs)
