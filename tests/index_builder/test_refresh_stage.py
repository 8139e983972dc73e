"""What a refresh does without, where the pipeline file names other sources by now."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from index_builder import refresh_stage
from tests.serving import rankers
from twinspire_core.contracts.feature_schema import co_occurrence_schema
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.fusion.fuse import Fusion

SOURCES = ("past", "co_occurrence", "ease")


@pytest.fixture
def staged(tmp_path):
    """A version whose mix and whose ranker go by three sources; of EASE there is no table."""
    items = {"_item": ["a", "b"], "_popular": [2, 1], "_lately": [1, 0]}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    pq.write_table(co_occurrence_schema().empty_table(), tmp_path / "co_occurrence.parquet")
    mix = Fusion(sources=SOURCES, bounds=(), weights=np.ones((1, 3)), fitted=FittedOn())
    (tmp_path / "mix.json").write_bytes(mix.dump())
    carried = rankers.files(SOURCES, ("popular", "place:ease"), lambda rows: rows[:, 0])
    for name, content in carried.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_sources_that_nobody_made_are_told_and_their_ranker_is_left_out(staged):
    sources = refresh_stage._sources_of(staged)
    assert refresh_stage._silent_in_mix(staged, sources) == ["ease"]
    assert refresh_stage._drop_unusable_ranker(staged, sources) == ["lists of ease"]
    assert not (staged / "ranker.json").exists() and not (staged / "ranker.txt").exists()


def test_what_has_all_tables_stays_as_it_is(staged):
    pq.write_table(co_occurrence_schema().empty_table(), staged / "ease.parquet")
    sources = refresh_stage._sources_of(staged)
    assert refresh_stage._silent_in_mix(staged, sources) == []
    assert refresh_stage._drop_unusable_ranker(staged, sources) == []
    assert (staged / "ranker.json").exists() and (staged / "ranker.txt").exists()


def test_a_feature_that_cannot_be_made_is_named_too(staged):
    carried = rankers.files(SOURCES, ("popular", "first_seen"), lambda rows: rows[:, 0])
    (staged / "ranker.json").write_bytes(carried["ranker.json"])
    lacking = refresh_stage._drop_unusable_ranker(staged, refresh_stage._sources_of(staged))
    assert lacking == ["first_seen", "lists of ease"]


def test_a_version_without_a_mix_goes_without_nothing(staged):
    for name in ("mix.json", "ranker.json", "ranker.txt"):
        (staged / name).unlink()
    sources = refresh_stage._sources_of(staged)
    assert refresh_stage._silent_in_mix(staged, sources) == []
    assert refresh_stage._drop_unusable_ranker(staged, sources) == []
