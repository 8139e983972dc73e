"""A version lists for a user at the start of a day what is measured on that day, whatever the source:
both are made of what the feature job wrote, the one at the end of the day before.
"""

import shutil
from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from beam_jobs.features_stage import write_raw
from index_builder import publish_stage
from model.evaluation.day_queries import has_past, queries_by_history
from model.evaluation.evaluation_set import ask_by_history, prepare_whole
from model.evaluation.ranked_lists import costly_lists, rank, rank_alone, rank_fixed, rank_queries
from model.evaluation.ranked_lists import retrieve as retrieve_measured
from serving.answers.encoded_queries import encode_queries, read_queries
from serving.answers.filtered_search import Seen, items_had
from serving.answers.retrieval import retrieve
from serving.requests.query_rows import STORED_HISTORY, Requests, complete
from serving.requests.request_model import ListRequest
from serving.version.filters import Groups
from serving.version.loaded_version import Version
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.test_raw_features_job import DAY
from tests.serving import rankers
from tests.serving.asking import recommend
from twinspire_core.config import source_registry
from twinspire_core.fusion.rank_fusion import DEPTH, FixedOrder
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.ranking.ranker import RankingFeatures, rank_candidates
from twinspire_core.search.index import NONE, ExactIndex, Settings
from twinspire_core.search.ragged import positions
from twinspire_core.sources import user_histories
from twinspire_core.sources.candidate_sources import CandidateSources, fits_of
from twinspire_core.sources.source import ScoredLists

SOURCES = [name for name in source_registry.SOURCE_NAMES if name != "two_tower"]
HALF_LIFE = "3h"
TABLES = fits_of(SOURCES)
K = 8
RANKED_SOURCES = ("two_tower", *SOURCES)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A version of the day before, and the folder of what the day is measured on."""
    folder = tmp_path_factory.mktemp("world")
    use = f"use = {list(RANKED_SOURCES)}"
    world = worlds.make(folder, 1, sources=use, window="personal_days = 7")
    assert DAY not in world.items, "one snapshot of the items for both"
    before, day = folder / "before", folder / "day"
    for out, of in ((before, DAY - timedelta(days=1)), (day, DAY)):
        write_raw(world.context(out, day=of), lambda rows: None)
    home = folder / "version"
    home.mkdir()
    items = ds.dataset(before / "corpus/end").to_table().sort_by("_item")
    pq.write_table(items, home / "items.parquet")
    context = SimpleNamespace(inputs={"features": str(before)}, pipeline=world.pipeline)
    for name in TABLES:
        publish_stage.add_source_table(context, home, name)
    FixedOrder.of(RANKED_SOURCES, half_life=HALF_LIFE).write(home)
    ranked = shutil.copytree(home, folder / "ranked")
    publish_stage.add_users(context, home)
    version = Version(world.pipeline, home, None)
    version.__dict__["index"] = np.zeros(len(items))  # asked for its length alone
    # With a ranker: fitted on what the day before knew, as rows of it are made.
    (ranked / "ranker.json").touch()
    publish_stage.add_users(context, ranked)
    named = SimpleNamespace(version="day-before", settings={})
    return version, day, _with_ranker(Version(world.pipeline, ranked, named))


def _with_ranker(version):
    """A version whose towers place users and items by their ids, and whose ranker uses all
    features.
    """
    rng = np.random.default_rng(1)
    items = _unit(rng.normal(size=(len(version.items), 8)))
    version.__dict__["index"] = ExactIndex(items, Settings(kind="exact", k=K))
    weights = dict(zip(RANKED_SOURCES, rng.random(len(RANKED_SOURCES)).tolist(), strict=True))
    version.__dict__["fixed_order"] = FixedOrder(weights=weights, half_life=HALF_LIFE)
    version.__dict__["vocabularies"] = SimpleNamespace(unknown=lambda table: {})
    version.__dict__["_tower"] = lambda table: _vectors_of(table["_user"].to_pylist())
    names = version.ranking_features.names(RANKED_SOURCES)
    users = version.users.some(30)
    pairs, features = _served(version, [{"user": user} for user in users])
    rows = features.values(pairs, names)
    wanted = rng.normal(size=len(names))
    files = rankers.files(
        RANKED_SOURCES,
        names,
        lambda rows: np.nan_to_num(rows, nan=-1).argsort(axis=0).argsort(axis=0) @ wanted,
        rows=rows,
    )
    for name, content in files.items():
        (version.home / name).write_bytes(content)
    return version


def _unit(vectors):
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _vectors_of(users):
    return _unit(np.stack([np.random.default_rng(list(u.encode())).normal(size=8) for u in users]))


def _users_with_a_past(day):
    """Those who are measured on the day."""
    rows = ds.dataset(day / "evaluation").to_table()
    rows = rows.filter(pc.equal(rows["_day"], DAY))
    return rows.filter(pa.array(has_past(rows)))


def _catalogue(day):
    """The corpus at the day's start, and the sources that the day is measured with."""
    corpus = ds.dataset(day / "corpus/start").to_table()
    tables = {name: ds.dataset(day / name / "start").to_table() for name in TABLES}
    return corpus, CandidateSources.of(corpus, tables, HALF_LIFE)


def _completed(version, requests, now=None):
    """Requests with the stored values of their users, and which users have some."""
    table = Requests(version.pipeline).table(requests)
    now = now or datetime.now(version.pipeline.zone)
    return complete(table, version.users, now, version.pipeline.history_name)


def _listed(version, table, source, k=K):
    nothing = Seen(np.zeros(0, np.int64), np.zeros(0, np.int64))
    everyone = Groups((None,), np.zeros(len(table), np.int64))
    queries = encode_queries(version, table, source)
    return retrieve(version, queries, ListRequest(k=k), source, nothing, everyone).rows


def _served(version, requests):
    """Candidates as serving makes them, and what their features are made of."""
    table, _ = _completed(version, requests)
    queries = encode_queries(version, table, "ranked")
    rows, scores = version.index.search(queries.vectors, DEPTH)
    given = queries.queries.with_given({"two_tower": ScoredLists(rows.astype(np.int64), scores)})
    lists = version.candidate_sources.retrieve(RANKED_SOURCES, given, DEPTH)
    vectors = Vectors(queries=queries.vectors, items=version.index.vectors)
    return Pairs.of(lists, given, len(version.items), vectors), version.ranking_features


def test_a_ranker_is_served_with_the_features_that_are_measured(both):
    _, day, version = both
    rows = _users_with_a_past(day)
    users = rows["_user"].to_pylist()
    corpus, measured = _catalogue(day)
    asked = prepare_whole(rows, corpus)
    # The corpus of the day's start is that of the end of the day before, in another order.
    place = version.rows(corpus["_item"])
    vectors = Vectors(queries=_vectors_of(users), items=version.index.vectors[place])
    exact = ExactIndex(vectors.items, Settings(kind="exact", k=K))
    found = ScoredLists(*exact.search(vectors.queries, DEPTH))
    queries = asked.source_queries.with_given({"two_tower": found})
    features = RankingFeatures.of(measured.tables)
    ranked = rank_candidates(version.ranker, features, measured, queries, K, vectors=vectors)
    items = measured.filled(ranked.items(ranked.best(K)), K)
    names = features.names(RANKED_SOURCES)
    assert version.ranker.names == names

    served_pairs, served_features = _served(version, [{"user": user} for user in users])
    served_values = served_features.values(served_pairs, names)
    order = np.lexsort((place[ranked.pairs.item], ranked.pairs.query))
    assert served_pairs.item.tolist() == place[ranked.pairs.item][order].tolist()
    measured_values = features.values(ranked.pairs, names)[order]
    for column, name in enumerate(names):
        np.testing.assert_array_equal(
            served_values[:, column], measured_values[:, column], err_msg=name
        )
        # A feature of which nothing is known would be alike, too.
        assert not np.isnan(served_values[:, column]).all(), name

    table, _ = _completed(version, [{"user": user} for user in users])
    assert _listed(version, table, "ranked").tolist() == place[items].tolist()


def test_who_is_asked_by_a_history_alone_is_served_as_the_ranker_was_fitted(both):
    """Users that are not stored: features of their history equal those of the rows."""
    _, day, version = both
    rows = ds.dataset(day / "evaluation").to_table()
    rows = rows.filter(pc.equal(rows["_day"], DAY))
    corpus, of_day = _catalogue(day)
    measured = prepare_whole(rows, corpus)
    pipeline = version.pipeline
    usable, by_history = queries_by_history(rows, pipeline, most=40, seed=1)
    known = positions(by_history[pipeline.history_name].combine_chunks(), corpus["_item"])
    asked = ask_by_history(measured, usable, by_history, known)
    histories = asked.queries[pipeline.history_name].to_pylist()
    lengths = [len(history) for history in histories]
    assert len(histories) > 10 and len({*lengths}) > 2 and not any(asked.queries["_holdout"])
    lists = of_day.retrieve(SOURCES, asked.source_queries, DEPTH)
    pairs = Pairs.of(lists, asked.source_queries, len(corpus))
    features = RankingFeatures.of(of_day.tables)

    table, _ = _completed(version, [{"history": history} for history in histories])
    queries = read_queries(version, table, personal=True)
    served = version.candidate_sources.retrieve(SOURCES, queries, DEPTH)
    served_pairs = Pairs.of(served, queries, len(version.items))
    place = version.rows(corpus["_item"])
    order = np.lexsort((place[pairs.item], pairs.query))
    assert served_pairs.item.tolist() == place[pairs.item][order].tolist()
    names = features.names(SOURCES)
    expected = features.values(pairs, names)[order]
    found = version.ranking_features.values(served_pairs, names)
    for column, name in enumerate(names):
        np.testing.assert_array_equal(found[:, column], expected[:, column], err_msg=name)
    had = found[:, names.index("personal:all")] > 0
    assert had.any() and np.isnan(found[had][:, names.index("personal_age")]).all()


@pytest.mark.parametrize("source", SOURCES)
def test_a_version_lists_what_is_measured(both, source):
    version, day, _ = both
    rows = _users_with_a_past(day)
    corpus, measured = _catalogue(day)
    asked = prepare_whole(rows, corpus)
    lists = measured.retrieve([source], asked.source_queries, K)[source]
    expected = measured.filled(lists.items, K)

    table, known = _completed(version, [{"user": user} for user in rows["_user"].to_pylist()])
    assert known.all() and len(known) > 10
    assert source in version.sources
    ids = corpus["_item"].to_numpy()
    assert version.ids[_listed(version, table, source)].tolist() == ids[expected].tolist()


@pytest.mark.parametrize("source", ["two_tower", *SOURCES, "fixed_order", "ranked"])
def test_what_was_seen_is_left_out_as_it_is_measured(both, source):
    """Also what was taken before the history window: whatever lists."""
    _, day, version = both
    rows = _users_with_a_past(day)
    users = rows["_user"].to_pylist()
    corpus, sources = _catalogue(day)
    asked = prepare_whole(rows, corpus, exclude_seen=True)
    vectors = Vectors(
        queries=_vectors_of(users), items=version.index.vectors[version.rows(corpus["_item"])]
    )
    two_tower = rank(asked, vectors.queries, vectors.items, DEPTH)
    if source == "two_tower":
        measured = two_tower.first(K)
    elif source == "fixed_order":
        known = {**costly_lists(sources, asked, DEPTH), "two_tower": two_tower}
        measured = rank_fixed(version.fixed_order, sources, asked, known, K)
    elif source == "ranked":
        known = {**costly_lists(sources, asked, DEPTH), "two_tower": two_tower}
        measured = rank_queries(version.ranker, sources, asked, vectors, known, K)
    else:
        measured = rank_alone(sources, asked, K, retrieve_measured(source, sources, asked, K))
    answer = recommend(
        version, [{"user": user} for user in users], K, exclude_seen=True, source=source
    )
    ids = corpus["_item"].to_numpy()
    expected = [ids[items[items >= 0]].tolist() for items in measured.excluded]
    listed = [version.ids[items[items != NONE]].tolist() for items in answer.rows]
    assert listed == expected
    before_histories = 0
    stored, _ = version.users.find(users)
    for n, user in enumerate(stored.to_pylist()):
        assert not {*listed[n]} & {*user["_personal"], *user["_past"]}
        before_histories += not user[version.pipeline.history_name] and bool(user["_past"])
    assert before_histories > 0


def test_newer_items_of_a_history_are_added_to_the_stored_ones(both):
    """Two users of the version, without a history, with an empty one, and with one more event."""
    version, _, _ = both
    stored = version.users.some(2)
    rows, _ = version.users.find(stored)
    own = [dict(zip(*of, strict=True)) for of in zip(*_counts(rows), strict=True)]
    new = next(item for item in version.ids if not any(item in counts for counts in own))
    histories = rows[version.pipeline.history_name].to_pylist()
    asked = [{"user": user} for user in stored]
    asked += [{"user": user, "history": []} for user in stored]
    asked += [
        {"user": user, "history": [*history[-2:], new]}
        for user, history in zip(stored, histories, strict=True)
    ]
    table, _ = _completed(version, asked)
    found = version.ids[_listed(version, table, "history")].tolist()
    for n, counts in enumerate(own):
        assert found[n] == found[2 + n], "an empty history says nothing"
        later = {**counts, new: 1.0}
        expected = sorted(later, key=lambda item: -later[item])
        of_catalogue = [item for item in expected if item in set(version.ids)]
        assert found[4 + n][: len(of_catalogue)] == of_catalogue[:K]


def _counts(rows):
    return rows["_personal"].to_pylist(), rows["_personal_60d"].to_pylist()


def test_of_somebody_unknown_a_history_is_counted_whole(both):
    """It says nothing of times: each event counts 1, and of equal counts the newest is first."""
    version, _, _ = both
    a, b, c = version.ids[:3].tolist()
    asked = [{"history": [a, b, c, b, "gone"]}, {"history": []}, {"user": "nobody"}]
    table, _ = _completed(version, asked)
    listed = _listed(version, table, "history", 3)
    assert version.ids[listed[0]].tolist() == [b, c, a]
    popular = version.candidate_sources.popular[:3].tolist()
    assert listed[1:].tolist() == [popular] * 2, "nothing is known of them"


def test_what_is_counted_was_had_although_no_history_goes_back_so_far(both):
    """Rules on lists take it for known: else the source `history` would fill the places for new
    items.
    """
    version, _, _ = both
    stored = version.users.some(20)
    rows, _ = version.users.find(stored)
    table, _ = _completed(version, [{"user": user} for user in stored])
    had = items_had(version, table)
    actual = [set(version.ids[had.row[had.query == n]]) for n in range(len(stored))]
    counted = [set(items) & set(version.ids) for items in rows["_personal"].to_pylist()]
    assert all(items <= known for items, known in zip(counted, actual, strict=True))
    histories = rows[version.pipeline.history_name].to_pylist()
    assert any(items and not own for items, own in zip(counted, histories, strict=True))


def test_of_a_stranger_only_the_requests_own_events_count(both):
    """On a Friday too, whose number is 4."""
    version, _, _ = both
    items = version.ids[:3].tolist()
    friday = datetime(2024, 3, 15, 12, tzinfo=version.pipeline.zone)
    table, _ = _completed(version, [{"history": items}, {"user": "nobody"}], friday)
    assert table["_past_events"].to_pylist() == [None, None]
    assert read_queries(version, table, personal=False).events.tolist() == [3, 0]


def test_without_counts_the_stored_history_tells_what_was_taken_last(both):
    """As far as it goes back, it is the order that ages of counted items tell."""
    version, _, _ = both
    counted, _ = _completed(version, [{"user": user} for user in version.users.some(100)])
    uncounted = counted.drop_columns([*{*user_histories.COLUMNS} & {*counted.column_names}])
    wanted, actual = (
        read_queries(version, rows, personal=True).weighted_items().items
        for rows in (counted, uncounted)
    )
    compared = 0
    for n, history in enumerate(counted[STORED_HISTORY].to_pylist()):
        by_age, in_order = (items.part(n, n + 1).values.tolist() for items in (wanted, actual))
        depth = len({*version.rows(history or []).tolist()} - {NONE})
        assert in_order[:depth] == by_age[:depth]
        assert {*in_order} <= {*by_age}, "counts go back further"
        compared += depth
    assert compared > 30 and (actual.lengths > 3).any()
