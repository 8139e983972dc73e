"""The DAGs of a pipeline file, for a DAG folder of your own. Imports Airflow and the standard library only.

from twinspire.airflow import recommender_dag
recommender_dag("/srv/pipelines/shop.toml")
"""

from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from twinspire.airflow.daily_dag import daily_dag
from twinspire.airflow.pipeline_files import read_file
from twinspire.airflow.upkeep_dags import COMMANDS, upkeep_dag

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
