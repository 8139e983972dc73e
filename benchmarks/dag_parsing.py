"""What Airflow's parsing of the DAG files costs, by the number of pipeline files.

    python -m benchmarks.dag_parsing
    python -m benchmarks.dag_parsing --files 1 1000 --json parsing.json

Copies of a shipped pipeline file, under names of their own, are read by the DAG files in a process of
its own, after Airflow's own imports, which every parsing has. `all` is what the DAG processor does again
and again: every DAG file, and every DAG of it, serialised. `one` is what a worker does before each of its
tasks: one DAG file, of which it asks for one DAG. CPU seconds; the least of three runs.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from benchmarks.quality.command import machine, write_whole

ROOT = Path(__file__).resolve().parent.parent
DAGS = ROOT / "dags"
_PARSE = """
    import os, sys, time
    import airflow.dag_processing.dagbag, airflow.sdk, airflow.sdk.lineage
    import airflow.providers.standard.operators.bash, airflow.providers.standard.sensors.bash
    import airflow.timetables.interval
    from airflow.serialization.serialized_objects import DagSerialization
    serialise = "_AIRFLOW_PARSING_CONTEXT_DAG_ID" not in os.environ
    began = time.process_time()
    dags = []
    for file in sys.argv[1:]:
        bag = airflow.dag_processing.dagbag.DagBag(file)
        assert not bag.import_errors, bag.import_errors
        dags += bag.dags.values()
    if serialise:
        for dag in dags:
            DagSerialization.to_dict(dag)
    print(len(dags), time.process_time() - began)
"""


def parse(pipelines: Path, dag: str | None = None) -> tuple[int, float]:
    """Parses all DAG files, or the one of a daily DAG for that alone.

    Returns: how many DAGs came of it, and CPU seconds.
    """
    with tempfile.TemporaryDirectory() as home:
        env = {
            **os.environ,
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "TWINSPIRE_PIPELINES": str(pipelines),
            "PYTHONPATH": str(DAGS),
        }
        files = [str(DAGS / name) for name in ("twinspire_dags.py", "upkeep_dags.py")]
        files.append(str(DAGS / "broken_pipeline_files.py"))
        if dag:
            env["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = dag
            del files[1:]
        line = [sys.executable, "-c", textwrap.dedent(_PARSE), *files]
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=True)
    count, seconds = done.stdout.splitlines()[-1].split()
    return int(count), float(seconds)


def measure(files: int, repeat: int) -> dict[str, float]:
    """Both ways of parsing, with so many pipeline files."""
    text = (ROOT / "pipelines" / "groceries.toml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        for n in range(files):
            copy = re.sub(r'(?m)^name = ".*"', f'name = "shop-{n}"', text, count=1)
            (Path(folder) / f"shop-{n}.toml").write_text(copy)
        found = [parse(Path(folder)) for _ in range(repeat)]
        one = [parse(Path(folder), "shop-0") for _ in range(repeat)]
    assert {count for count, _ in one} == {1}
    return {
        "files": files,
        "dags": found[0][0],
        "all_cpu_s": round(min(seconds for _, seconds in found), 2),
        "one_cpu_s": round(min(seconds for _, seconds in one), 2),
    }


def main() -> None:
    """Prints a line for each number of files."""
    about = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    about.add_argument("--files", type=int, nargs="+", default=[1, 20, 200])
    about.add_argument("--repeat", type=int, default=3)
    about.add_argument("--json", type=Path, help="where the figures go, too")
    options = about.parse_args()
    rows = []
    for files in options.files:
        rows.append(measure(files, options.repeat))
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        figures = {"machine": machine(), "rows": rows}
        write_whole(options.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
