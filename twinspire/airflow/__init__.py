"""The DAGs of a pipeline file, for a DAG folder of your own. Imports Airflow and the standard library only.

from twinspire.airflow import recommender_dag
recommender_dag("/srv/pipelines/shop.toml")

Two DAGs look after each recommender: `NAME.monitor` runs every hour, `NAME.prune` every week. Each recommender
has its own, so that you can pause one, and see its runs alone.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable

from twinspire.airflow.command_tasks import shared_arguments, stage
from twinspire.airflow.daily_dag import daily_dag
from twinspire.airflow.pipeline_files import Recommender, read_file

__all__ = ["recommender_dag"]

# What keeps the days in order, or comes from the pipeline file
_OURS = frozenset(
    [
        "dag_id",
        "schedule",
        "catchup",
        "params",
        "deadline",
        "max_active_runs",
        "doc_md",
        "user_defined_filters",
    ]
)


def recommender_dag(file: str | Path, **dag_arguments: Any) -> DAG:
    """Makes the DAGs of a pipeline file: `NAME` runs a day, `NAME.monitor` and `NAME.prune` look after it.

    Airflow shows all three, also if the result is not assigned.

    Args:
      file: absolute path of the pipeline file.
      **dag_arguments: of Airflow's `DAG`, for all three. `tags` and `default_args`, such as `pool` and
        `queue` of the tasks, are added to ours and win over them. A failure calls your
        `on_failure_callback` after ours.

    Returns: the DAG that runs a day.

    Raises:
      ValueError: the file or an argument is wrong. Airflow shows it as an import error.
    """
    if not Path(file).is_absolute():
        raise ValueError(
            f"recommender_dag needs the absolute path of a pipeline file; found {str(file)!r}. For a file"
            " next to the DAG file, write Path(__file__).with_name('shop.toml')."
        )
    if refused := sorted(_OURS & dag_arguments.keys()):
        raise ValueError(
            f"recommender_dag sets {', '.join(refused)} itself. Leave it out; the pipeline file has"
            " schedule, time_zone, retries and deadline in its table [pipeline]."
        )
    recommender = read_file(Path(file))
    for name in COMMANDS:
        upkeep_dag(recommender, name, dag_arguments)
    return daily_dag(recommender, dag_arguments)


MONITOR = """### Is the live version well?

Every hour `twinspire status PIPELINE --check` opens the live version and changes nothing. A red run has
called `notify.command`, and its log has the reasons. Prometheus watches the servers.

- **5** red: the live version is older than `registry.max_age`, or its lists are empty or the same for
  most users. `twinspire status PIPELINE` shows the state of the days. `twinspire rollback PIPELINE`
  goes back to the version before.
- **2** red: the pipeline file is wrong.
- **75** tried again: the registry's store does not answer.
- **99** skipped: no version is live yet.
"""
PRUNE = """### Old versions and working files are deleted

Every week `twinspire prune PIPELINE --yes` deletes what `registry.keep_versions` and
`registry.keep_days` do not keep. Its log lists what was deleted. The live version and pinned versions
stay, and so do files that running days and the next day need. To see what would be deleted: `twinspire
prune PIPELINE`.
"""


COMMANDS = {  # off the full hour, when everything else begins
    "monitor": ("7 * * * *", "status", "--check", MONITOR),
    "prune": ("23 5 * * 1", "prune", "--yes", PRUNE),
}


def upkeep_dag(recommender: Recommender, name: str, dag_arguments: Mapping[str, Any]) -> DAG:
    """A DAG of one command, whose name is the task's, too.

    Args:
      name: of an entry of `COMMANDS`.
      dag_arguments: what `recommender_dag` was given for Airflow's `DAG`.
    """
    cron, command, options, about = COMMANDS[name]
    with DAG(
        f"{recommender.name}.{name}",
        schedule=CronTriggerTimetable(cron, recommender.zone),
        catchup=False,
        max_active_runs=1,
        doc_md=about.replace("PIPELINE", shlex.quote(str(recommender.file))),
        **shared_arguments(recommender, "upkeep", dag_arguments),
    ) as made:
        stage(command, recommender, options)
    return made
