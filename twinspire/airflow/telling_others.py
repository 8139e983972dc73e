"""What tasks report to others: notifications, an asset that other DAGs start by, lineage, gauges."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, BaseOperatorLink
from airflow.sdk.lineage import get_hook_lineage_collector
from airflow.sdk.observability import stats

from twinspire.airflow.pipeline_files import Recommender

NOTIFIED = (1, 2, 3, 4, 5)  # exit codes of commands that have run notify.command themselves


def live_version(name: str) -> Asset:
    """The asset by which a recommender's DAG announces that another version is live. DAGs that are scheduled
    on it start then. The event's `extra` has the version, its day and its quality.
    """
    return Asset(name=f"{name}/live", uri=f"x-twinspire://{name}/live")


def went_live(result: dict[str, Any]) -> bool:
    """Whether a stage made a version go live that was not live before."""
    made = "done" in (result["status"], result.get("refresh", {}).get("status"))
    return made and bool(result.get("live"))


def announcement(result: dict[str, Any]) -> dict[str, Any]:
    """The content of the event about a version that went live: the version, its day, and the measure of its
    served lists for users on whom it was not trained.
    """
    return {"version": result["version"], "day": result["day"], **_measured(result)}


def last_lines(result: dict[str, Any]) -> list[str]:
    """The last lines of the log of a task that publishes: the version, how good it is, its report.

    Args:
      result: the command's last line. A refused version has one, too.
    """
    folder = result.get("folder")
    if folder is None:  # it made no version
        return []
    version = result.get("version") or folder.rstrip("/").rpartition("/")[2]
    if result["status"] == "GateRefused":
        live = result.get("live_version")
        what = "is refused by the gate" + (f"; {live} is live" if live else "")
    else:
        what = "is live" if result.get("live") else "is published, and not live"
    report = result.get("report") or f"{folder.rstrip('/')}/report.html"
    return [f"{version} {what}.", _quality(result), f"Report: {report}"]


def _quality(result: dict[str, Any]) -> str:
    """How good the served lists are, for held-out users of the day; or why that is not known."""
    if served := result.get("served"):
        return f"{served['text']} Notes of the gate: {len(result.get('notes') or [])}."
    reason = result.get("reason") or "accepted, with nothing to compare"
    return f"The gate's reason: {reason.rstrip('.')}."


def _measured(result: dict[str, Any]) -> dict[str, float]:
    """The measure of the served lists, by its name."""
    served = result.get("served")
    return {served["metric"]: served["value"]} if served else {}


def tell_of_failure(recommender: Recommender) -> Callable[[Any], None]:
    """A callback for a task that has failed finally. It runs `notify.command` of the pipeline file, unless
    the command that failed has run it.
    """

    def tell(context: Any) -> None:
        error = context.get("exception")
        if getattr(error, "exit_code", None) in NOTIFIED:
            return
        resolved = context["ti"].xcom_pull(task_ids="day") or {}
        day = resolved.get("day") or context["params"].get("day")
        reason = str(error or "It was killed, or never started; see Airflow's log.")
        about = ["--stage", context["ti"].task_id, "--reason", reason]
        if day:
            about += ["--date", day]
        elif start := context["dag_run"].data_interval_start:
            about += ["--instant", start.isoformat()]
        notify(str(recommender.file), "failed", about)

    return tell


def tell_of_late_day(file: str, context: dict[str, Any]) -> None:
    """Runs `notify.command` for a run that has not succeeded by its deadline. Airflow calls it by its name."""
    run = context["dag_run"]
    # Days of a backfill are late anyway, and whoever starts a manual run watches it
    if run["run_type"] != "scheduled":
        return
    reason = f"Its run {run['dag_run_id']} is {run['state']} at its deadline (pipeline.deadline)."
    notify(file, "late_day", ["--reason", reason, "--instant", run["data_interval_start"]])


def notify(file: str, event: str, about: list[str]) -> None:
    """Runs `twinspire notify`."""
    python = os.environ.get("TWINSPIRE_PYTHON", sys.executable)
    line = [python, "-m", "twinspire", "notify", file, "--event", event, *about]
    subprocess.run(line, check=False, timeout=300)


class ReportLink(BaseOperatorLink):
    """A button on the tab *Details* of the task's page. It opens the report of the version that the task
    published, or that the gate refused.
    """

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address, when the task has ended."""
        return (
            operator.report or ""
        )  # Airflow shows no button for empty text, but a dead one for None


def collect_lineage(task: Any, result: dict[str, Any]) -> None:
    """Reports what a stage read and wrote, for example to OpenLineage, if somebody collects lineage."""
    collector = get_hook_lineage_collector()
    for place in result.get("inputs", {}).values():
        collector.add_input_asset(task, uri=_uri(place))
    for name in ("attempt", "folder"):
        if place := result.get(name):
            collector.add_output_asset(task, uri=_uri(place))


def _uri(place: str) -> str:
    return place if "://" in place else Path(place).absolute().as_uri()


def send_gauges(task: Any, result: dict[str, Any]) -> None:
    """Sends each figure of a command's last line, and what the gate measured, as
    `twinspire.PIPELINE.TASK.FIGURE` to where Airflow sends its own: StatsD or OpenTelemetry.
    """
    figures = result | _measured(result)
    for name, value in figures.items():
        # Not isinstance, to which flags such as `live` are integers, too.
        if type(value) in (int, float):
            valid_name = name.replace("@", "_at_")  # neither system accepts all characters
            stats.gauge(f"twinspire.{task.dag_id}.{task.task_id}.{valid_name}", value)
