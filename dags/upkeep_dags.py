"""DAGs that look after each recommender: `NAME.monitor`, every hour, and `NAME.prune`, every week.

Each recommender has its own, so that one can be paused, and its runs tell of it alone.
"""

import shlex

from airflow.sdk import DAG, CronTriggerTimetable, get_parsing_context
from pipeline_files import Recommender, folder, read
from stage_tasks import stage, task_defaults

MONITOR = """### Is what is live well?

Every hour `twinspire status PIPELINE --check` opens the live version. A red run has called
`notify.command`; its log has the reasons. It changes nothing. Prometheus watches the servers.

- **5** red: the live version is older than `registry.max_age`, or its lists are empty or the same for
  most users. `twinspire status PIPELINE` says what became of the days; `twinspire rollback PIPELINE`
  brings back the version before.
- **2** red: the pipeline file is wrong.
- **75** tried again: the registry's store does not answer.
- **99** skipped: nothing is live yet.
"""
PRUNE = """### Old versions and working files go

Every week `twinspire prune PIPELINE --yes` deletes what `registry.keep_versions` and
`registry.keep_days` no longer keep; its log names all of it. The live version and pinned ones stay,
and so does what the next day and days under way are made from. To see what would go: `twinspire prune
PIPELINE`.
"""


COMMANDS = {  # off the full hour, when everything else begins
    "monitor": ("7 * * * *", "status", "--check", MONITOR),
    "prune": ("23 5 * * 1", "prune", "--yes", PRUNE),
}


def upkeep(recommender: Recommender, name: str) -> DAG:
    """A DAG of one command, after which its task is named."""
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
