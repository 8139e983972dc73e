"""Shows broken pipeline files as an import error in Airflow.

It is a DAG file of its own, because an import error of twinspire_dags.py would hide the healthy DAGs, too.
"""

from twinspire.airflow.pipeline_files import folder, read

recommenders, problems = read(folder(__file__))
if problems:
    raise ImportError(
        "these pipeline files have no DAG until you correct them:\n" + "\n".join(problems)
    )
