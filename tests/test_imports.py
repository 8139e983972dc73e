"""Imports point one way. Read from the source, so that imports inside functions count too.

twinspire.pipeline, .storage, .errors, .workdir, .stages   the bottom: of ours, they import each other only
beam_jobs, model, index_builder, serving                   meet on disk; of each other, contract modules only
twinspire.cli and all else of twinspire                    on top: may import anything
dags                                                       import none of it
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOTTOM = {
    f"twinspire.{name}"
    for name in (
        "errors",
        "feature",
        "gcs",
        "hiding",
        "measures",
        "pipeline",
        "quiet",
        "stages",
        "storage",
        "tables",
        "version",
        "wording",
        "workdir",
    )
}
MIDDLE = ("beam_jobs", "model", "index_builder", "serving")
CONTRACTS = {
    "beam_jobs.schema",  # columns of examples and corpus
    "beam_jobs.reading.csvlines",  # text files as they are written, whoever reads them
    "beam_jobs.reading.files",
    "beam_jobs.reading.jsonlines",
    "model.canonical",  # SavedModels whose bytes follow from what they hold
    "model.bundle",  # a trained bundle's files
    "model.nominators",  # sources of candidates, besides the towers
    "model.mix",  # how they become one list
    "model.ragged",  # lists of differing length, as these take them
    "model.exposure",  # which items are popular
    "model.ahead",  # one batch made while another is used
    "index_builder.manifest",  # a version's files
    "index_builder.registry",  # which version is live
    "index_builder.exact",  # comparing all vectors
    "index_builder.tensorflow_serving",  # tower and vectors as one model
    "index_builder.vectors",  # which the embed stage leaves
    "index_builder.index",  # an index's files, and how to search them
    "index_builder.report.blocks",  # what figures and lists are called where people read them
}
OURS = (*MIDDLE, "twinspire")


def modules() -> dict[str, Path]:
    """Every module of the packages, by its name."""
    found = {}
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path, name: str = "") -> set[str]:
    """Modules of ours that the file imports, at its top or anywhere inside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
                home = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            whole = {f"{home}.{alias.name}" for alias in node.names}
            found |= {module if module in MODULES else home for module in whole}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return {module for module in found if module.split(".")[0] in OURS}


@pytest.mark.parametrize("name", sorted(BOTTOM))
def test_the_bottom_imports_nothing_above_it(name):
    assert imports(MODULES[name], name) <= BOTTOM | {"twinspire"}


@pytest.mark.parametrize("name", sorted(m for m in MODULES if m.startswith(MIDDLE)))
def test_packages_meet_on_disk(name):
    own = name.split(".")[0]
    allowed = BOTTOM | CONTRACTS | {"twinspire"}
    strangers = {m for m in imports(MODULES[name], name) if m.split(".")[0] != own}
    assert strangers <= allowed, (
        f"{name} imports {sorted(strangers - allowed)}: let them meet on disk, or in a contract"
    )


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_contracts_are_light(name):
    code = f"import sys, {name}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split()
    assert not {"tensorflow", "apache_beam", "scann", "airflow", "tensorflow_transform"} & set(loaded)


@pytest.mark.parametrize("path", sorted((ROOT / "dags").rglob("*.py")), ids=lambda path: path.name)
def test_dags_import_none_of_it(path):
    assert imports(path) == set()


def test_the_command_line_starts_light():
    code = "import sys, twinspire.cli; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split()
    heavy = {"tensorflow", "apache_beam", "scann", "airflow", "tensorflow_transform"}
    assert not (heavy | {"numpy", "pyarrow", "polars", "matplotlib"}) & set(loaded)


def test_keras_is_loaded_only_where_it_is_asked_for():
    """It takes a third as long as TensorFlow itself: only a function may import the module that needs it."""

    def at_the_top(name):
        body = [
            node for node in ast.parse(MODULES[name].read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        of = [getattr(node, "module", None) or node.names[0].name for node in body]
        return {module for module in of if module in ("model.encoder_layers", "keras") or module.startswith("keras.")}

    found = {name: at_the_top(name) for name in MODULES}
    assert {name: x for name, x in found.items() if x} == {"model.encoder_layers": {"keras"}}


def test_imports_inside_functions_and_by_name_are_seen(tmp_path):
    file = tmp_path / "odd.py"
    file.write_text(
        "def f():\n    from model import towers\n    import_module('beam_jobs.embed')\n    import serving\n"
    )
    assert {"beam_jobs.embed", "serving"} < imports(file) and any(m.startswith("model") for m in imports(file))
