"""DAGs that look after each recommender: `NAME.monitor` runs every hour, `NAME.prune` every week.

Each recommender has its own, so that you can pause one, and see its runs alone.
"""

import shlex

from airflow.sdk import DAG, CronTriggerTimetable, get_parsing_context
from pipeline_files import Recommender, folder, read
from stage_tasks import stage, task_defaults

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


def upkeep(recommender: Recommender, name: str) -> DAG:
    """A DAG of one command, whose name is the task's, too."""
    cron, command, options, about = COMMANDS[name]
    with DAG(
        f"{recommender.name}.{name}",
        schedule=CronTriggerTimetable(cron, recommender.zone),
        catchup=False,
        max_active_runs=1,
        doc_md=about.replace("PIPELINE", shlex.quote(str(recommender.file))),
        tags=["twinspire", "upkeep"],
        default_args=task_defaults(recommender),
    ) as made:
        stage(command, recommender, options)
    return made


only = get_parsing_context().dag_id
for one in read(folder())[0]:
    for each in COMMANDS:
        if only in (None, f"{one.name}.{each}"):
            upkeep(one, each)
