from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.features.raw_features_job import write_raw
from model.evaluation.day_data import read_table
from model.evaluation.evaluation_set import prepare
from model.ranking import fit, ranking_rows
from model.ranking.day_rows import Asked, rows_of_day
from model.ranking.ranking_rows import RankingRows
from model.ranking.replay import renumbered, rows_before
from tests.model.train_stage.two_days import FIRST, SECOND, context
from twinspire_core.contracts.feature_schema import co_occurrence_schema
from twinspire_core.ranking.registry import RankingFeatures
from twinspire_core.sources.candidate_sources import CandidateSources

REPLAYED = FIRST - timedelta(days=1)


@pytest.mark.slow
def test_rows_are_those_of_the_features_of_that_day(shop, tmp_path):
    p = shop.pipeline
    write_raw(context(p, REPLAYED, tmp_path, mode="incremental"), lambda rows: None)
    corpus = read_table(tmp_path / "corpus/start")
    tables = {"co_occurrence": read_table(tmp_path / "co_occurrence/start")}
    every = read_table(tmp_path / "evaluation")
    users = [row for row in every.to_pylist() if row["_day"] == REPLAYED and not row["_holdout"]]
    users = pa.Table.from_pylist(sorted(users, key=lambda row: row["_user"]), schema=every.schema)
    asked = Asked(
        evaluation_set=prepare(users, corpus), usable=np.arange(len(users)), known={}, vectors=None
    )
    sources = CandidateSources.of(corpus, tables)
    expected = rows_of_day(REPLAYED, p.sources.use, sources, [asked])
    [found] = [one for one in ranking_rows.read(str(shop.train1)) if one.day == REPLAYED]
    assert found.queries == expected.queries > 20 and found.by_history.any()
    assert found.names == expected.names and not {"cosine", "place:two_tower"} & {*found.names}
    assert "two_tower" not in found.sources
    known = ~np.repeat(found.by_history, found.lengths)
    np.testing.assert_array_equal(found.values[known], expected.values)
    np.testing.assert_array_equal(found.taken[known], expected.taken)
    np.testing.assert_array_equal(found.weights[known], expected.weights)


@pytest.mark.slow
def test_days_are_replayed_only_where_the_parent_kept_no_rows_or_old_ones(shop):
    """Days that run at the same time have features with a replay, all of them."""
    ctx = context(shop.pipeline, SECOND, shop.train2, parent=shop.train1)
    days = [rows.day for rows in rows_before(ctx, shop.features1, "1d")]
    assert days == [FIRST, REPLAYED] == [one.day for one in ranking_rows.read(str(shop.train1))]
    nothing = context(shop.pipeline, SECOND, shop.train2, parent=shop.features2)
    assert [rows.day for rows in rows_before(nothing, shop.features1, "1d")] == [REPLAYED]
    p = shop.pipeline
    alone = p.model_copy(update={"sources": p.sources.model_copy(update={"use": ("two_tower",)})})
    assert not rows_before(replace(nothing, pipeline=alone), shop.features1, "1d")
    for days_later, expected in ((7, [FIRST]), (8, [FIRST, REPLAYED])):
        late = replace(ctx, day=FIRST + timedelta(days=days_later))
        kept = shop.train2.parent / f"kept{days_later}"
        ranking_rows.write(kept, ranking_rows.read(str(shop.train1))[:1])
        late = replace(late, parent=replace(ctx.parent, measure=str(kept)))
        assert [one.day for one in rows_before(late, shop.features1, "1d")] == expected


def test_a_table_of_some_days_ago_names_the_same_items_today():
    table = pa.table(
        {
            "_item": ["b", "c", "d"],
            "_rows": [[0, 2, 3], [0], [1, 2]],
            "_similarities": [[0.9, 0.5, 0.1], [0.7], [0.4, 0.3]],
        },
        schema=co_occurrence_schema(),
    )
    moved = renumbered(table, pa.array(["a", "b", "c", "d"]), pa.array(["b", "bb", "c", "d"]))
    assert moved.schema == table.schema
    assert [row["_item"] for row in moved.to_pylist()] == ["b", "d"]
    assert moved["_rows"].to_pylist() == [[2, 3], [0, 2]]
    np.testing.assert_allclose(moved["_similarities"].to_pylist(), [[0.5, 0.1], [0.4, 0.3]])


def _rows(sources, day, queries, seed):
    rng = np.random.default_rng(seed)
    names = ("cosine", "gain") if "two_tower" in sources else ("gain",)
    return RankingRows(
        day=day,
        sources=sources,
        lengths=np.full(queries, 20),
        by_history=np.zeros(queries, bool),
        taken=rng.random(20 * queries) < 0.2,
        weights=np.ones(20 * queries, np.float32),
        names=names,
        values=rng.random((20 * queries, len(names))).astype(np.float32),
    )


@pytest.mark.parametrize(("with_towers", "uses_towers"), [(299, False), (300, True)])
def test_trees_use_towers_once_enough_users_have_rows_with_them(
    monkeypatch, with_towers, uses_towers
):
    monkeypatch.setattr(fit, "LEAST_USERS", 300)
    sources = ("two_tower", "history")
    corpus = pa.table({"_item": ["a"], "_popular": [1], "_lately": [1]})
    days = [_rows(sources, date(2024, 5, 2), with_towers, 1)]
    days.append(_rows(("history",), date(2024, 5, 1), 60, 2))
    ranked = fit.sources_to_rank(days, sources)
    made = RankingFeatures.of(CandidateSources.of(corpus).tables)
    names = made.among(ranked).names(ranked)
    ranker = fit.fit_ranker(days, ranked, names, metric="recall@10", k=10, seed=1)
    assert ("cosine" in ranker.names) == ("two_tower" in ranker.sources) == uses_towers
    assert ("place:two_tower" in ranker.names) == uses_towers and "gain" in ranker.names
