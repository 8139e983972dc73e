"""CONTRIBUTING.md says how the project is extended: by a module, or a class, and a line that names it. Each
case does so in a copy of the packages, and uses what it added in a new process.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]


class Extension(NamedTuple):
    """An extension.

    Attributes:
      place: the file that gets the line.
      lines: text to add, by the line of the file that it is put behind.
      use: a program that fails without the extension.
      module: path of a new file, and what is in it.
    """

    place: str
    lines: dict[str, str]
    use: str
    module: tuple[str, str] | None = None


COMMAND = Extension(
    module=(
        "twinspire/cli/count_days.py",
        '''
from pathlib import Path
def count_days(logs: Path) -> None:
    """Count the days of a folder of logs."""
    print(len(list(logs.glob("dt=*"))))
''',
    ),
    place="twinspire/cli/main.py",
    lines={
        "    change_versions,": "    count_days,",
        "        doctor.doctor,": "        count_days.count_days,",
    },
    use="""
from typer.testing import CliRunner
from twinspire.cli.main import app
assert CliRunner().invoke(app, ["count-days", "."]).output == "0\\n"
assert "count-days" in CliRunner().invoke(app, ["--help"]).output
""",
)
RANKING_FEATURE = Extension(
    module=(
        "twinspire_core/ranking/groups/corpus_order.py",
        """
from twinspire_core.ranking.feature_group import FeatureGroup
class CorpusOrder(FeatureGroup):
    def names(self, sources):
        return ("corpus_order",)
    def write(self, pairs, values):
        values[0] = pairs.item
    def describe(self, name, value):
        return f"item {value:.0f} of the corpus"
""",
    ),
    place="twinspire_core/ranking/ranking_features.py",
    lines={
        "from twinspire_core.ranking.feature_group import FeatureGroup": (
            "from twinspire_core.ranking.groups.corpus_order import CorpusOrder"
        ),
        "    UserActivity,": "    CorpusOrder,",
    },
    use="""
from tests.twinspire_core.ranking.tiny import described, value
assert value("corpus_order") == {(u, i): i for u, i in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]}
assert described("corpus_order", 2.0) == "item 2 of the corpus"
""",
)
KIND = Extension(
    place="twinspire_core/config/feature_kinds.py",
    lines={
        "# The discriminator makes pydantic report the broken rules of one kind, not of all.": '''
class FlagFeature(CategoryFeature):
    """Yes or no."""
    kind: Literal["flag"]

''',
        "    | HistoryFeature,": "    | FlagFeature,",
    },
    use="""
import pyarrow as pa
from model.towers.design import design
from serving.requests.request_model import RequestModel
from tests.tiny_pipeline import tiny_pipeline
from twinspire_core.config.feature_kinds import KINDS
from twinspire_core.contracts.feature_schema import query_columns
features = {
    "user": {"kind": "id", "tower": "query"},
    "item": {"kind": "id", "tower": "item"},
    "member": {"kind": "flag", "tower": "query"},
}
p = tiny_pipeline(features=features)
assert KINDS["flag"].__doc__ == "Yes or no."
assert pa.field("member", pa.string()) in query_columns(p)
assert RequestModel.of(p).parse({"member": "yes"})["member"] == "yes"
assert "member" in design(p, dict.fromkeys(features, pa.array(["a"]))).tables
""",
)


@pytest.mark.parametrize("name", ["COMMAND", "RANKING_FEATURE", "KIND"])
def test_a_line_adds_it(name, tmp_path):
    extension = globals()[name]
    package = extension.place.split("/")[0]
    shutil.copytree(
        ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
    )
    assert not _uses(extension, tmp_path)
    if extension.module:
        path, text = extension.module
        (tmp_path / path).write_text(text)
    place = tmp_path / extension.place
    text = place.read_text()
    for after, line in extension.lines.items():
        assert text.count(f"{after}\n") == 1, f"{extension.place} has no line {after!r}"
        text = text.replace(f"{after}\n", f"{after}\n{line}\n")
    place.write_text(text)
    assert _uses(extension, tmp_path)


def _uses(extension: Extension, packages: Path) -> bool:
    """Whether the extension's program ends well with these packages."""
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}"}
    program = [sys.executable, "-c", extension.use]
    ended = subprocess.run(
        program, cwd=packages, env=environment, capture_output=True, text=True, check=False
    )
    print(ended.stderr)
    return ended.returncode == 0
