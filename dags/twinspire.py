"""Lets these DAG files import `twinspire.airflow` of their checkout where Twinspire is not installed.

Airflow puts this folder last on Python's path, so an installed Twinspire comes first.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[1] / "twinspire")]
if not Path(__path__[0], "airflow").is_dir():
    raise ImportError(
        f"{__path__[0]} does not exist: these DAG files must be in a checkout of Twinspire. Name dags/ of"
        " the checkout as Airflow's dags_folder, or install Twinspire in Airflow's environment."
    )
