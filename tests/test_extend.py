"""CONTRIBUTING.md says how the project is extended: by a module, or a class, and a line that names it. Each
case does so in a copy of the packages, and uses what it added there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from twinspire_core.config.source_registry import SOURCE_NAMES

ROOT = Path(__file__).parents[1]
SOURCES_PAGE = (ROOT / "docs/guide/sources.md").read_text()
[STEADY] = re.findall(r"```python\n(.*?)```", SOURCES_PAGE, re.DOTALL)


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
from twinspire_core.ranking.pairs import Feature, FeatureGroup
class CorpusOrder(FeatureGroup):
    def features(self, sources):
        return {"corpus_order": Feature(lambda x: f"item {x:.0f} of the corpus", "unknown")}
    def write(self, pairs, values):
        values[0] = pairs.item
""",
    ),
    place="twinspire_core/ranking/ranker.py",
    lines={
        "from twinspire_core.ranking.pairs import FeatureGroup, Pairs, Vectors": (
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
        'TimePart = Literal["hour", "weekday"]': '''
class FlagFeature(CategoryFeature):
    """Yes or no."""
    kind: Literal["flag"]
''',
        "    | TimeFeature": "    | FlagFeature",
    },
    use="""
import pyarrow as pa
from model.towers.architecture import design
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
assert RequestModel(p).parse({"member": "yes"})["member"] == "yes"
assert "member" in design(p, dict.fromkeys(features, pa.array(["a"]))).tables
""",
)
STORE = Extension(
    module=(
        "twinspire_core/storage/box.py",
        """
from dataclasses import replace
from twinspire_core.storage import disk
def _path(uri): return uri.replace("box://", "box/")
def exists(uri): return disk.exists(_path(uri))
def list_files(uri):
    return [replace(f, uri=f.uri.replace("box/", "box://")) for f in disk.list_files(_path(uri))]
def list_names(uri): return disk.list_names(_path(uri))
def read_bytes(uri): return disk.read_bytes(_path(uri))
def open_bytes(uri): return disk.open_bytes(_path(uri))
def write_bytes(uri, data): disk.write_bytes(_path(uri), data)
def put_if_absent(uri, data): return disk.put_if_absent(_path(uri), data)
def delete_file(uri): disk.delete_file(_path(uri))
def upload(uri, path): write_bytes(uri, path.read_bytes())
def download(uri, path): path.write_bytes(read_bytes(uri))
""",
    ),
    place="twinspire_core/storage/__init__.py",
    lines={
        "from twinspire_core.storage import disk, gcs, object_stores": "from twinspire_core.storage import box",
        'STORES: Mapping[str, RemoteStore] = {"gs": gcs, "s3": object_stores, "az": object_stores}': (
            'STORES["box"] = box'
        ),
    },
    use="""
from pathlib import Path
from twinspire_core import storage
assert storage.put_if_absent("box://shop/a", b"1") and not storage.put_if_absent("box://shop/a", b"2")
storage.copy_tree("box://shop", "here")
storage.copy_tree("here", "box://back/up")
assert storage.read_bytes("box://back/up/a") == Path("here/a").read_bytes() == b"1"
assert [file.path for file in storage.list_files("box://back")] == ["up/a"]
storage.delete_tree("box://back")
assert not storage.exists("box://back/up/a") and storage.exists("box://shop/a")
""",
)
MEASURE = Extension(
    module=(
        "twinspire_core/metrics/precision.py",
        """
def precision(hit, wanted, k):
    return hit.lengths / k
""",
    ),
    place="twinspire_core/metrics/measure_names.py",
    lines={"MEASURES = {": '    "precision": "twinspire_core.metrics.precision:precision",'},
    use="""
import numpy as np
from tests.tiny_pipeline import tiny_pipeline
from twinspire_core.metrics import list_metrics
from twinspire_core.search.ragged import Ragged
truth = Ragged(np.array([7, 4]), np.array([0, 0]), 1)
measures = list_metrics.by_user(np.array([[4, 5, 7, 9]]), truth, [4])
assert measures["precision@4"].tolist() == [0.5]
gate = {"metric": "precision@4", "floors": {"precision@4": 0.1}}
tiny_pipeline(evaluation={"ks": [4]}, gate=gate)
""",
)
SOURCE = Extension(
    module=("twinspire_core/sources/steady.py", STEADY),
    place="twinspire_core/config/source_registry.py",
    lines={
        "ENTRIES = {": '    "steady": SourceEntry("steady sellers", f"{_PACKAGE}.steady:Steady"),'
    },
    use="""
import numpy as np
import pyarrow as pa
from tests.tiny_pipeline import tiny_pipeline
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import Queries
corpus = {"_item": list("abcd"), "_popular": [9, 5, 4, None], "_lately": [0, 1, 4, 7]}
sources = CandidateSources.of(pa.table(corpus))
past = Ragged(np.array([2]), np.array([0]), 2)
listed = sources.retrieve(["steady", "history"], Queries.of_past(past), 3, exclude=past)["steady"]
assert listed.items.tolist() == [[1, 0, 3], [2, 1, 0]]
assert np.allclose(listed.scores[1], [4, 5**0.5, 0])
assert "steady" in sources.without_model, "measured like the others"
tiny_pipeline(sources={"use": ["two_tower", "steady"]})
""",
)
RULE = Extension(
    module=(
        "index_builder/gate/corpus_rule.py",
        """
from index_builder.gate.comparison import Finding
def judge_small_corpus(measured, gate, index):
    if measured.items < 10:
        yield Finding(True, f"a corpus of {measured.items} items is too small")
""",
    ),
    place="index_builder/gate/verdict.py",
    lines={
        "from index_builder.gate.ranker_rules import RecipeJudgement, judge_order, judge_recipe, note_recipe": (
            "from index_builder.gate.corpus_rule import judge_small_corpus"
        ),
        "    note_recipe,": "    judge_small_corpus,",
    },
    use="""
from index_builder.gate.comparison import JudgedVersion
from index_builder.gate.verdict import judge
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures
version = {"two_tower": HeldOutMeasures(), "index_recall": 1.0, "baseline_items": None}
refused = judge(JudgedVersion(items=9, **version), GateConfig(), IndexConfig()).refused
assert refused == ("a corpus of 9 items is too small",)
assert judge(JudgedVersion(items=10, **version), GateConfig(), IndexConfig()).accepted
""",
)


EXTENSIONS = {
    "command": COMMAND,
    "features of the ranker": RANKING_FEATURE,
    "kind of feature": KIND,
    "store": STORE,
    "measure": MEASURE,
    "source": SOURCE,
    "rule of the gate": RULE,
}
# Programs of one process, which imports the libraries once: the names of those that end well.
ALL = """
import json, sys, traceback
ended_well = []
for name, use in json.load(sys.stdin).items():
    try:
        exec(use, {})
    except Exception:
        traceback.print_exc()
    else:
        ended_well.append(name)
print(json.dumps(ended_well))
"""


@pytest.fixture(scope="module")
def ended_well(tmp_path_factory):
    """Which extensions' programs end well without them, and with all of them."""
    packages = tmp_path_factory.mktemp("packages")
    for package in {extension.place.split("/")[0] for extension in EXTENSIONS.values()}:
        shutil.copytree(
            ROOT / package, packages / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    before = _ended_well(packages)
    for extension in EXTENSIONS.values():
        if extension.module:
            path, text = extension.module
            (packages / path).write_text(text)
        place = packages / extension.place
        text = place.read_text()
        for after, line in extension.lines.items():
            assert text.count(f"{after}\n") == 1, f"{extension.place} has no line {after!r}"
            text = text.replace(f"{after}\n", f"{after}\n{line}\n")
        place.write_text(text)
    return before, _ended_well(packages)


def _ended_well(packages: Path) -> list[str]:
    uses = json.dumps({name: extension.use for name, extension in EXTENSIONS.items()})
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}"}
    program = [sys.executable, "-c", ALL]
    ended = subprocess.run(
        program, input=uses, cwd=packages, env=environment, capture_output=True, text=True
    )
    print(ended.stderr)
    return json.loads(ended.stdout)


@pytest.mark.parametrize("name", EXTENSIONS)
def test_a_line_adds_it(name, ended_well):
    without, with_it = ended_well
    assert name not in without and name in with_it


def test_the_page_names_every_source():
    table = SOURCES_PAGE.split("## Add one")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= set(SOURCE_NAMES)
