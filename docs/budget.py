"""Prints how large the project is, beside what it may be at most: `make lint` ends with it.

`docs/budget.json` has the limits. None of them fails anything: a row that is over its limit asks the
next change to take something away.
"""

import ast
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from twinspire_core.config.feature_kinds import KINDS
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.base import Strict

ROOT = Path(__file__).parents[1]
PRODUCT = ("twinspire_core", "twinspire", "beam_jobs", "model", "index_builder", "serving")
ARGUMENT = re.compile(r"^ {2}\*{0,2}\w+: (.*(?:\n {4,}.*)*)", re.M)
"""An entry of a docstring's `Args:`, after the section's own indent is taken off."""


def main() -> None:
    """Prints the table."""
    limits = json.loads((ROOT / "docs" / "budget.json").read_text())
    table = Table("", "now", "at most", box=None, padding=(0, 2), title="Size of the project")
    for name, value in measure().items():
        style = "yellow" if value > limits[name] else None
        table.add_row(name, f"{value:,}", f"{limits[name]:,}", style=style)
    Console(width=80).print(table)


def measure() -> dict[str, float]:
    """Each figure by its name in `budget.json`. Only what git tracks counts."""
    product = [*_texts(*(f"{package}/*.py" for package in PRODUCT))]
    modules = [text for path, text in product if path.name != "__init__.py"]
    trees = [ast.parse(text) for _, text in product]
    lines = sum(_lines(text) for _, text in product)
    arguments = [words for tree in trees for words in _argument_words(tree)]
    comments = sum(line.lstrip().startswith("#") for text in modules for line in text.splitlines())
    benchmarks = [text for path, text in _texts("benchmarks/*.py") if path.name != "__init__.py"]
    return {
        "product: statements": sum(map(_statements, trees)),
        "product: lines": lines,
        "product: modules": len(modules),
        "product: lines of the longest module": max(map(_lines, modules)),
        "product: arguments in three words or fewer, %": _percent(
            sum(words <= 3 for words in arguments), len(arguments)
        ),
        "product: comments, % of lines (aim: 3)": _percent(comments, lines),
        "keys of the pipeline file": sum(1 for model in _models() for _ in _keys(model)),
        "words of documentation": sum(len(text.split()) for _, text in _texts("*.md")),
        "records of decisions": len([*_texts("docs/decisions/*.md")]) - 1,
        "benchmarks: modules": len(benchmarks),
        "benchmarks: lines": sum(map(_lines, benchmarks)),
        "tests: lines": sum(_lines(text) for _, text in _texts("tests/*.py")),
    }


def _texts(*patterns: str) -> Iterator[tuple[Path, str]]:
    """Files that git tracks, by git's patterns, in which `*` matches `/` too."""
    command = ["git", "ls-files", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            yield Path(name), (ROOT / name).read_text()


def _lines(text: str) -> int:
    return text.count("\n")


def _statements(tree: ast.AST) -> int:
    """Statements of a module, docstrings left out."""
    return sum(isinstance(node, ast.stmt) and not _is_docstring(node) for node in ast.walk(tree))


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)


def _argument_words(tree: ast.AST) -> Iterator[int]:
    """How many words describe each documented argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            _, _, section = text.partition("Args:\n")
            for description in ARGUMENT.findall(section.partition("\n\n")[0]):
                yield len(description.split())


def _models() -> Iterable[type[Strict]]:
    return [*_tables(Pipeline), *KINDS.values()]


def _tables(model: type[Strict]) -> Iterator[type[Strict]]:
    yield model
    for field in model.model_fields.values():
        if _is_table(field.annotation):
            yield from _tables(field.annotation)


def _keys(model: type[Strict]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name not in ("kind", "features") and not _is_table(field.annotation):
            yield name


def _is_table(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Strict)


def _percent(part: int, whole: int) -> float:
    return round(100 * part / max(whole, 1), 1)


if __name__ == "__main__":
    main()
