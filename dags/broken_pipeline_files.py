"""Shows broken pipeline files as an import error in Airflow.

In a DAG file of its own: an import error of twinspire_dags.py would hide the healthy DAGs, too.
"""

from pipeline_files import folder, read

recommenders, problems = read(folder())
if problems:
    raise ImportError(
        "pipeline files that have no DAG until they are mended:\n" + "\n".join(problems)
    )
