"""The DAGs of each pipeline file. Broken files are left out; broken_pipeline_files.py shows them."""

from airflow.sdk import get_parsing_context

from twinspire.airflow import recommender_dag
from twinspire.airflow.pipeline_files import folder, read

# Before each task, a worker parses this file for one DAG only
only = get_parsing_context().dag_id
for one in read(folder(__file__))[0]:
    if only is None or only.partition(".")[0] == one.name:
        recommender_dag(one.file)
