"""Files that earlier releases left are read, and written again they are what they were."""

import json
import tarfile
from pathlib import Path

import pytest

from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.fusion_file import FusionFile
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.index_figures import IndexFigures

DATA = Path(__file__).parents[2] / "data"
FILES = (DayMetrics, FusionFile, GateVerdict, IndexFigures)


def stored():
    """Contents of all files of `tests/data` that are declared, by a name."""
    names = {model.FILE for model in FILES}
    for path in sorted(DATA.rglob("*.json")):
        if path.name in names:
            yield str(path.relative_to(DATA)), path.name, path.read_bytes()
    for packed in sorted(DATA.glob("*.tar.gz")):
        with tarfile.open(packed) as archive:
            for member in archive:
                if Path(member.name).name in names:
                    content = archive.extractfile(member).read()
                    yield f"{packed.name}/{member.name}", Path(member.name).name, content


STORED = [pytest.param(file, content, id=name) for name, file, content in stored()]


@pytest.mark.parametrize(("file", "content"), STORED)
def test_a_file_is_written_as_it_was_read(file, content):
    model = next(model for model in FILES if file == model.FILE)
    assert model.parse(content).dump() == content


def test_every_file_is_among_the_data():
    assert {param.values[0] for param in STORED} == {model.FILE for model in FILES}


def test_what_a_file_lacks_has_a_default_and_is_not_written():
    empty = DayMetrics.parse(b"{}")
    assert empty.progressive is None and empty.holdout.users == 0
    assert empty.mix.holdout.candidate is None and empty.holdout.change_of("mrr").change is None
    assert json.loads(empty.dump()) == {}


def test_what_a_later_release_adds_is_kept():
    told = {"progressive": {"recall@50": 0.5, "of_brands": {"x": [1]}}, "weather": "fine"}
    read = DayMetrics.model_validate(told)
    assert read.progressive.values == {"recall@50": 0.5}
    assert json.loads(read.dump()) == told


def test_numbers_that_are_none_and_tiny_ones_are_written_as_python_writes_them():
    content = b'{\n "progressive": {\n  "recall@50": NaN,\n  "mrr": 1e-05\n }\n}'
    assert DayMetrics.parse(content).dump() == content


def test_where_there_is_no_file_none_is_found(tmp_path):
    assert DayMetrics.find(tmp_path) is None
    with pytest.raises(FileNotFoundError):
        DayMetrics.read(str(tmp_path))
    DayMetrics(leads={"2024-05-01": {"mrr": 1.5}}).write(tmp_path)
    assert DayMetrics.find(str(tmp_path)).leads["2024-05-01"]["mrr"] == 1.5
