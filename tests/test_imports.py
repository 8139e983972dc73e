"""What is loaded with what. Which package may import which is import-linter's affair
(pyproject.toml, `make lint`).
"""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("beam_jobs", "examples", "index_builder", "model", "serving", "twinspire", "twinspire_core")
HEAVY = {"tensorflow", "apache_beam", "scann", "airflow", "tensorflow_transform"}


def modules() -> dict[str, Path]:
    """Every module of the packages, by its name."""
    paths = {}
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


MODULES = modules()


def loaded_by(*names: str) -> set[str]:
    """Top-level names of all that is loaded when these modules are imported."""
    code = f"import sys, {', '.join(names)}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split())


def test_the_floor_a_day_s_measures_and_what_other_packages_take_from_a_stage_are_light():
    """Loading TensorFlow would cost the process that measures seconds."""
    floor = {name for name in MODULES if name.startswith("twinspire_core")}
    others = ("index_builder.registry.registry", "model.data.prefetch", "model.measure_stage")
    assert not HEAVY & loaded_by(*floor - {"twinspire_core.search.scann_index"}, *others)


IN_AIRFLOW = [*(ROOT / "dags").rglob("*.py"), *(ROOT / "twinspire/airflow").rglob("*.py")]


@pytest.mark.parametrize("path", sorted(IN_AIRFLOW), ids=lambda path: path.name)
def test_dags_import_airflow_and_the_standard_library_only(path):
    nodes = [*ast.walk(ast.parse(path.read_text()))]
    actual = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
    actual |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    others = {name for name in actual if not name.startswith("twinspire.airflow")}
    assert {name.partition(".")[0] for name in others} <= {"airflow", *sys.stdlib_module_names}


def test_the_command_line_starts_light():
    assert not (HEAVY | {"numpy", "pyarrow", "polars", "matplotlib"}) & loaded_by(
        "twinspire.cli.main"
    )


def test_a_day_is_measured_with_the_extra_for_training_alone():
    """What a function imports counts too."""
    with patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    extras = setup.call_args.kwargs["extras_require"]
    named = {
        extra: {re.split(r"\W", line.replace("-", "_"))[0] for line in lines}
        for extra, lines in extras.items()
    }
    imported, ours = set(), ["model.measure_stage"]
    for name in ours:
        for node in ast.walk(ast.parse(MODULES[name].read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
            else:
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            imported |= {one.partition(".")[0] for one in names if one not in MODULES}
            ours += [one for one in names if one in MODULES and one not in ours]
    assert "lightgbm" in imported
    stores = {"obstore"}  # needed only where the places are in such a store
    assert imported & set.union(*named.values()) - stores <= named["train"]


def test_keras_is_loaded_only_where_it_is_asked_for():
    """It takes a third as long as TensorFlow itself: only a function may import the module that
    needs it.
    """
    layers = "model.towers.encoder_layers"

    def at_the_top(name):
        body = [
            node
            for node in ast.parse(MODULES[name].read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        of = [getattr(node, "module", None) or node.names[0].name for node in body]
        return {
            module for module in of if module in (layers, "keras") or module.startswith("keras.")
        }

    actual = {name: at_the_top(name) for name in MODULES}
    assert {name: x for name, x in actual.items() if x} == {layers: {"keras"}}
