"""What the parent leaves to the day."""

import json
import shutil
from datetime import date
from pathlib import Path
from types import SimpleNamespace

from model.fit_day import inherited_ranker
from twinspire_core.contracts.ranker_file import FORMAT
from twinspire_core.contracts.stage_context import Parent

YESTERDAY = date(2024, 5, 19)


def test_a_ranker_of_other_sources_or_of_another_format_is_not_inherited(tmp_path):
    frozen = Path(__file__).parents[1] / "data" / "artifact_v2"
    [described] = frozen.rglob("ranker.json")
    for name in ("ranker.json", "ranker.txt"):
        shutil.copy(described.with_name(name), tmp_path)
    content = json.loads(described.read_text())

    def found(sources):
        parent = Parent(day=YESTERDAY, version="p", home=str(tmp_path), train="", measure="")
        pipeline = SimpleNamespace(mix=SimpleNamespace(sources=sources))
        return inherited_ranker(SimpleNamespace(parent=parent, pipeline=pipeline))

    assert found(tuple(content["sources"])).names == tuple(content["features"])
    assert found(tuple(content["sources"][1:])) is None
    other = {"format": FORMAT + 1, "sources": 3}
    (tmp_path / "ranker.json").write_text(json.dumps(other))
    assert found(tuple(content["sources"])) is None
