from dataclasses import replace
from datetime import date

import pytest

from index_builder import publish_stage, refresh_stage
from index_builder.registry.registry import Registry
from tests.serving import rankers
from twinspire_core import storage
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.fusion.rank_fusion import FixedOrder

TRAINED, NEXT = date(2024, 5, 1), date(2024, 5, 2)
MADE = ("history", "co_occurrence")  # of the days' working files no other source can be made


@pytest.fixture
def refreshed(context, pipeline, tmp_path):
    """Publishes a version, and refreshes it with the catalogue of the day after: the folder of what
    that makes, and its notes.
    """
    registry = Registry(pipeline.registry.root, pipeline.name)

    def make(trained_files):
        made = context(TRAINED)
        for name, content in trained_files.items():
            storage.write_bytes(storage.join(made.inputs["measure"], name), content)
        trained = publish_stage.run(made)["version"]
        later = context(NEXT)
        # With what was said of the ranker: all that a refresh reads of a version.
        later = replace(later, inputs={**later.inputs, "measure": made.inputs["measure"]})
        summary = refresh_stage.run(
            later, before=registry.manifest(trained), trained=trained, live=trained
        )
        assert summary["refused"] == [] and summary["version"] != trained
        return registry.open(summary["version"], tmp_path / "cache"), summary["notes"]

    return make


def files(*sources, features=("popular",)):
    ranker = rankers.files(sources, features, lambda rows: rows[:, 0])
    return {"fixed_order.json": FixedOrder.of(sources).dump(), **ranker}


def test_missing_sources_are_reported_and_their_ranker_is_left_out(refreshed):
    features = ("place:neighbours", "attribute_share:colour")
    version, notes = refreshed(files(*MADE, "neighbours", features=features))
    assert not (version / "ranker.json").exists() and not (version / "ranker.txt").exists()
    assert GateVerdict.read(version).serves == "fixed_order", "where the ranker served"
    assert any("does not use lists of neighbours:" in note for note in notes)
    assert any(
        "as it uses attribute_share:colour, lists of neighbours, which" in note for note in notes
    )


def test_what_has_all_tables_stays_as_it_is(refreshed):
    carried = files(*MADE)
    version, notes = refreshed(carried)
    for name in ("fixed_order.json", "ranker.json", "ranker.txt"):
        assert (version / name).read_bytes() == carried[name]
    assert GateVerdict.read(version).serves == "ranked"
    assert not any("without" in note or "left out" in note for note in notes)


def test_a_ranker_of_a_format_that_nobody_here_can_tell_of_stays(refreshed):
    carried = {**files(*MADE), "ranker.json": b'{"format": 7, "features": 3}'}
    version, notes = refreshed(carried)
    assert (version / "ranker.json").read_bytes() == carried["ranker.json"]
    assert not any("left out" in note for note in notes)
