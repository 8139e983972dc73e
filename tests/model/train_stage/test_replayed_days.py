import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.features_stage import write_raw
from model.evaluation.evaluation_set import prepare
from model.ranking import candidate_rows
from model.ranking.candidate_rows import Asked, rows_of_day
from model.ranking.fitting_days import renumbered, rows_before
from tests.model.train_stage.two_days import FIRST, SECOND, context
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.co_occurrence import SCHEMA

REPLAYED = FIRST - timedelta(days=1)


@pytest.mark.slow
def test_rows_are_those_of_the_features_of_that_day(shop, tmp_path):
    p = shop.pipeline
    write_raw(context(p, REPLAYED, tmp_path, mode="incremental"), lambda rows: None)
    corpus = pq.read_table(tmp_path / "corpus/start")
    tables = {"co_occurrence": pq.read_table(tmp_path / "co_occurrence/start")}
    every = pq.read_table(tmp_path / "evaluation")
    users = [row for row in every.to_pylist() if row["_day"] == REPLAYED and not row["_holdout"]]
    users = pa.Table.from_pylist(sorted(users, key=lambda row: row["_user"]), schema=every.schema)
    asked = Asked(evaluation_set=prepare(users, corpus), usable=np.arange(len(users)))
    sources = CandidateSources.of(corpus, tables)
    expected = rows_of_day(REPLAYED, p.sources.use, sources, [asked])
    [found] = [one for one in candidate_rows.read(str(shop.train1)) if one.day == REPLAYED]
    assert found.queries == expected.queries > 20 and found.by_history.any()
    assert found.names == expected.names and not {"cosine", "place:two_tower"} & {*found.names}
    assert "two_tower" not in found.sources
    known = ~np.repeat(found.by_history, found.lengths)
    np.testing.assert_array_equal(found.values[known], expected.values)
    np.testing.assert_array_equal(found.taken[known], expected.taken)
    np.testing.assert_array_equal(found.weights[known], expected.weights)


@pytest.mark.slow
def test_days_are_replayed_only_where_the_parent_kept_no_rows_or_old_ones(shop):
    ctx = context(shop.pipeline, SECOND, shop.train2, parent=shop.train1)
    days = [rows.day for rows in rows_before(ctx, shop.features1, "1d")]
    assert days == [FIRST, REPLAYED] == [one.day for one in candidate_rows.read(str(shop.train1))]
    nothing = context(shop.pipeline, SECOND, shop.train2, parent=shop.features2)
    assert [rows.day for rows in rows_before(nothing, shop.features1, "1d")] == [REPLAYED]
    p = shop.pipeline
    alone = p.model_copy(update={"sources": p.sources.model_copy(update={"use": ("two_tower",)})})
    assert not rows_before(replace(nothing, pipeline=alone), shop.features1, "1d")
    for days_later, expected in ((7, [FIRST]), (8, [FIRST, REPLAYED])):
        late = replace(ctx, day=FIRST + timedelta(days=days_later))
        kept = shop.train2.parent / f"kept{days_later}"
        candidate_rows.write(kept, candidate_rows.read(str(shop.train1))[:1])
        late = replace(late, parent=replace(ctx.parent, measure=str(kept)))
        assert [one.day for one in rows_before(late, shop.features1, "1d")] == expected


@pytest.mark.slow
def test_a_day_before_any_event_of_the_catalogue_is_not_replayed(shop, tmp_path):
    folder = shutil.copytree(shop.features1 / "replay", tmp_path / "replay")
    [corpus] = (folder / f"dt={REPLAYED}/corpus/start").glob("*.parquet")
    pq.write_table(pq.read_table(corpus)[:0], corpus)
    ctx = context(shop.pipeline, SECOND, shop.train2, parent=shop.features2)
    assert rows_before(ctx, tmp_path, "1d") == []


def test_a_table_of_some_days_ago_names_the_same_items_today():
    columns = {"_item": ["b", "c", "d"], "_rows": [[0, 2, 3], [0], [1, 2]]}
    columns["_similarities"] = [[0.9, 0.5, 0.1], [0.7], [0.4, 0.3]]
    table = pa.table(columns, schema=SCHEMA)
    moved = renumbered(table, pa.array(["a", "b", "c", "d"]), pa.array(["b", "bb", "c", "d"]))
    assert moved.schema == table.schema
    assert [row["_item"] for row in moved.to_pylist()] == ["b", "d"]
    assert moved["_rows"].to_pylist() == [[2, 3], [0, 2]]
    np.testing.assert_allclose(moved["_similarities"].to_pylist(), [[0.5, 0.1], [0.4, 0.3]])
