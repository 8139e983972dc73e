import json
from datetime import date
from types import SimpleNamespace

from model.fit_day import inherited_ranker
from tests.serving import rankers
from twinspire_core.contracts.attempts import Parent
from twinspire_core.contracts.ranker_file import FORMAT

YESTERDAY = date(2024, 5, 19)


def test_a_ranker_of_other_sources_or_of_another_format_is_not_inherited(tmp_path):
    for name, file in rankers.files(
        ("history", "popular"), ("popular",), lambda rows: rows[:, 0]
    ).items():
        (tmp_path / name).write_bytes(file)
    content = json.loads((tmp_path / "ranker.json").read_text())

    def found(sources):
        parent = Parent(day=YESTERDAY, version="p", home=str(tmp_path), train="", measure="")
        pipeline = SimpleNamespace(sources=SimpleNamespace(use=sources))
        return inherited_ranker(SimpleNamespace(parent=parent, pipeline=pipeline))

    assert found(tuple(content["sources"])).names == tuple(content["features"])
    assert found(tuple(content["sources"][1:])) is None
    other = {"format": FORMAT + 1, "sources": 3}
    (tmp_path / "ranker.json").write_text(json.dumps(other))
    assert found(tuple(content["sources"])) is None
