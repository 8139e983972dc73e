"""DAGs that look after each recommender: `NAME.monitor` runs every hour, `NAME.prune` every week.

Each recommender has its own, so that you can pause one, and see its runs alone.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable

from twinspire.airflow.command_tasks import shared_arguments, stage
from twinspire.airflow.pipeline_files import Recommender

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
