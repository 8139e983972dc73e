import gzip
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.score_version import VersionParts, score_file, score_version
from tests.model.split_by_hand import ITEMS, RECS, SHUFFLED, TRUTH, jsonl
from tests.serving import rankers
from twinspire_core.errors import BadData, UsageError
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.sources.source import SourceTables

# Device -> what it likes: ca, bd, d
AXIS = {"phone": [1, 0, 2, 0], "tv": [0, 3, 0, 1], None: [0, 0, 0, 1]}


def by_device(asked: pa.Table) -> np.ndarray:
    return np.array([AXIS[device] for device in asked.column("device").to_pylist()], np.float32)


VERSION = VersionParts(embed=by_device, vectors=SHUFFLED, tables=SourceTables(corpus=ITEMS))


def test_a_version_is_asked_raw_features(tiny):
    queries = pa.table(
        {"user": ["v", "u"], "device": ["tv", "phone"], "recent": [["b"], ["a", "zz"]]}
    )
    truth = pa.table({"user": ["u", "v", "w"], "items": [["a"], ["b"], ["d"]]})
    found = score_version(VERSION, queries, truth, tiny.pipeline(), [1, 2])
    towers = found["two_tower"]
    assert (towers["users"], towers["answered"]) == (3, 2)
    # W: asked with its features missing
    assert towers["recall@1"] == pytest.approx((0 + 1 + 1) / 3)
    assert towers["recall@2"] == 1
    # U and v took what they had
    assert towers["excluded"]["recall@2"] == pytest.approx((0 + 0 + 1) / 3)
    assert found["purchase_history"]["recall@1"] == pytest.approx(2 / 3)
    assert found["popular_lately"]["recall@1"] == pytest.approx(1 / 3)


def test_a_history_goes_by_the_name_that_requests_give_it(tiny):
    truth = pa.table({"user": ["u", "v"], "items": [["a"], ["b"]]})
    lists = {"user": ["v", "u"], "device": ["tv", "phone"], "recent": [["b"], ["a"]]}
    named = score_version(VERSION, pa.table(lists), truth, tiny.pipeline(), [1, 2])
    lists["history"] = lists.pop("recent")
    assert score_version(VERSION, pa.table(lists), truth, tiny.pipeline(), [1, 2]) == named
    assert named["purchase_history"]["recall@1"] == 1


def test_a_feature_of_the_wrong_type_is_named(tiny):
    queries = pa.table({"user": ["u"], "recent": ["a"]})
    with pytest.raises(BadData, match=r"Feature recent is list<.*the queries hold string"):
        truth = pa.table({"user": ["u"], "item": ["a"]})
        score_version(VERSION, queries, truth, tiny.pipeline(), [1])


def test_an_item_without_a_vector_is_an_error(tiny):
    queries = pa.table({"user": ["u"]})
    with pytest.raises(BadData, match=r"1 of 4 have none"):
        truth = pa.table({"user": ["u"], "item": ["a"]})
        lacking = replace(VERSION, vectors=SHUFFLED.slice(1))
        score_version(lacking, queries, truth, tiny.pipeline(), [1])


def test_of_what_passes_a_filter(tiny):
    """Of a and b: u likes a, v likes b; w took d alone and does not count. u had c: its neighbour
    a, but not d.
    """
    queries = pa.table(
        {
            "user": ["v", "u", "w"],
            "device": ["tv", "phone", None],
            "recent": [[], ["c", "b"], ["a"]],
        }
    )
    truth = pa.table({"user": ["u", "v", "w"], "items": [["a", "c", "gone"], ["b"], ["d"]]})
    lists = {"_rows": [[3, 0]], "_similarities": pa.array([[0.5, 0.25]], pa.list_(pa.float32()))}
    together = pa.table(
        {"_item": ["c"], **lists | {"_rows": pa.array(lists["_rows"], pa.list_(pa.int32()))}}
    )
    order = FixedOrder(weights={"co_occurrence": 1, "two_tower": 0.1})
    tables = SourceTables(corpus=ITEMS, others={"co_occurrence": together})
    version = replace(VERSION, tables=tables, order=order)
    given = (queries, truth, tiny.pipeline())
    passing = np.array([True, True, False, False])
    found = score_version(version, *given, [1], passing=passing)
    assert {(m["users"], m["left_out"], m["items"]) for m in found.values()} == {(2, 1, 2)}
    recalls = {name: measures["recall@1"] for name, measures in found.items()}
    popular = {
        "most_popular": 0.5,
        "popular_lately": 0.5,
        "purchase_history": 0.0,
        "co_occurrence": 0.5,
        "history": 0.0,
        "popular": 0.5,
    }
    assert recalls == {"two_tower": 1.0, "fixed_order": 1.0, **popular}
    assert found["two_tower"]["coverage@1"] == 1.0
    with pytest.raises(BadData, match="none of 5 does"):
        score_version(VERSION, *given, [1], passing=np.zeros(4, bool))


@pytest.mark.parametrize("passing", [None, np.array([True, False, True, True])])
def test_a_ranker_is_measured_by_its_own_lists(tiny, passing):
    """By the place in the two-tower's list, which holds all that passes: its own order again."""
    carried = rankers.files(
        ("history", "two_tower"), ("place:history", "place:two_tower"), lambda rows: -rows[:, 1]
    )
    ranker = Ranker.parse(carried["ranker.txt"], carried["ranker.json"])
    queries = pa.table({"user": ["v", "u"], "device": ["tv", "phone"], "recent": [["d"], ["d"]]})
    truth = pa.table({"user": ["u", "v"], "items": [["c"], ["b"]]})
    given = (queries, truth, tiny.pipeline(), [1, 2])
    found = score_version(replace(VERSION, ranker=ranker), *given, passing=passing)
    counted = {"recall@1", "recall@2", "mrr", "ndcg@2", "coverage@1", "answered"}
    for name in counted:
        assert found["ranked"][name] == found["two_tower"][name], name
    assert found["purchase_history"]["recall@1"] == 0 and found["ranked"]["recall@1"] == 1
    assert "ranked" not in score_version(VERSION, *given, passing=passing)


def test_a_filter_is_the_same_as_a_smaller_catalogue(tiny):
    rng = np.random.default_rng(0)
    ids, users = [f"i{n:02d}" for n in range(40)], [f"u{n}" for n in range(30)]
    items = pa.table(
        {"_item": ids, "_popular": rng.integers(0, 9, 40), "_lately": rng.integers(0, 9, 40)}
    )
    vectors = pa.table(
        {"_item": ids, "vector": rng.normal(size=(40, 4)).astype(np.float32).tolist()}
    )
    asked = rng.normal(size=(30, 4)).astype(np.float32)
    passing = rng.random(40) < 0.4
    took = [list(rng.choice(ids, 6)) for _ in users]
    queries = pa.table(
        {"user": users, "recent": [list(rng.choice(ids, rng.integers(0, 9))) for _ in users]}
    )
    kept = [[item for item in own if passing[ids.index(item)]] for own in took]
    left = [n for n, own in enumerate(kept) if own]

    def score(items, vectors, took, **filtered):
        version = VersionParts(
            embed=lambda _: asked[left], vectors=vectors, tables=SourceTables(corpus=items)
        )
        truth = pa.table({"user": users, "items": took})
        return score_version(
            version, queries, truth, tiny.pipeline(tiny.features), [1, 5], **filtered
        )

    mask = pa.array(passing)
    smaller = score(items.filter(mask), vectors.filter(mask), kept)
    for name, measures in score(items, vectors, took, passing=passing).items():
        assert measures.pop("left_out") == 30 - len(left)
        assert _alike(measures) == _alike(smaller[name]), name


def _alike(measures: dict) -> dict:
    """What a smaller catalogue does not change: in it nobody has had anything else, and other items
    are popular.
    """
    kept = {
        key: x
        for key, x in measures.items()
        if not key.startswith("popular_share") and "/users:" not in key
    }
    kept |= {key: _alike(x) for key, x in kept.items() if isinstance(x, dict) and key != "slices"}
    return kept | ({"slices": kept["slices"]["items"]} if "slices" in kept else {})


def test_the_fixed_order_is_scored_beside_its_sources(tiny):
    """One user had b twice and then c, another had a once; a and d go together. Past: b, then c.
    The towers say d.
    """
    items = pa.table({"_item": list("abcd"), "_popular": [4, 3, 2, 1], "_lately": [0, 0, 0, 1]})
    vectors = pa.table({"_item": list("abcd"), "vector": np.eye(4, dtype=np.float32).tolist()})
    lists = {
        "_rows": pa.array([[3]], pa.list_(pa.int32())),
        "_similarities": pa.array([[0.5]], pa.list_(pa.float32())),
    }
    together = pa.table({"_item": ["a"], **lists})
    order = FixedOrder(weights={"history": 0.01, "two_tower": 1})
    queries = pa.table({"user": ["u", "v"], "recent": [["b", "c", "b"], ["a"]]})
    truth = pa.table({"user": ["u", "v"], "items": [["b"], ["d"]]})

    def towers_say_d(asked):
        return np.tile(np.array([[0, 0.1, 0.2, 1]], np.float32), (asked.num_rows, 1))

    version = VersionParts(
        embed=towers_say_d,
        vectors=vectors,
        tables=SourceTables(corpus=items, others={"co_occurrence": together}),
        order=order,
    )
    found = score_version(version, queries, truth, tiny.pipeline(tiny.features), [1])
    recalls = {name: measures["recall@1"] for name, measures in found.items()}
    assert recalls == {
        "two_tower": 0.5,
        "fixed_order": 0.5,
        "most_popular": 0.0,
        "popular_lately": 0.5,
        "purchase_history": 0.5,
        "co_occurrence": 0.5,
        "history": 0.5,
        "popular": 0.5,
    }
    assert list(found)[:2] == ["two_tower", "fixed_order"]


def test_a_history_is_read_as_a_server_reads_it(tiny):
    """The user had b twice, and a since: what goes with a comes first where the newest counts most,
    and of what was had before a is not what was had most often.
    """
    items = pa.table({"_item": list("abcd"), "_popular": [0] * 4, "_lately": [0] * 4})
    lists = {
        "_rows": pa.array([[2], [3]], pa.list_(pa.int32())),
        "_similarities": pa.array([[0.5], [0.5]], pa.list_(pa.float32())),
    }
    together = {"co_occurrence": pa.table({"_item": ["a", "b"], **lists})}
    tables = SourceTables(corpus=items, others=together)
    carried = rankers.files(
        ("co_occurrence", "history"), ("personal:all", "personal_age"), lambda rows: rows[:, 0]
    )
    version = VersionParts(
        embed=lambda asked: np.ones((asked.num_rows, 2), np.float32),
        vectors=pa.table({"_item": list("abcd"), "vector": [[1.0, 0.0]] * 4}),
        tables=tables,
        ranker=Ranker.parse(carried["ranker.txt"], carried["ranker.json"]),
    )
    queries = pa.table({"user": ["u"], "history": [["b", "b", "a"]]})

    def first(source, item):
        truth = pa.table({"user": ["u"], "item": [item]})
        found = score_version(version, queries, truth, tiny.pipeline(tiny.features), [1])
        return found[source]["recall@1"]

    assert first("co_occurrence", "c") == 1
    assert first("history", "b") == 1
    assert first("ranked", "b") == 1, "which goes by how often it was had"


@pytest.fixture
def truth(tmp_path) -> str:
    return jsonl(tmp_path / "truth.jsonl", TRUTH)


def test_a_file_by_hand(tmp_path, truth):
    found = score_file(jsonl(tmp_path / "recs.jsonl", RECS), truth, [1, 2])
    assert (found["users"], found["answered"]) == (3, 2)  # w was given nothing: a miss
    assert found["recall@1"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert found["recall@2"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["hit_rate@2"] == pytest.approx(2 / 3)
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert "coverage@2" not in found


def test_with_a_corpus_what_lies_outside_cannot_be_found(tmp_path, truth):
    corpus = jsonl(tmp_path / "corpus.jsonl", [{"item": x} for x in "abcd"])
    found = score_file(jsonl(tmp_path / "recs.jsonl", RECS), truth, [2], corpus)
    assert found["recall@2"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert found["coverage@2"] == 3 / 4


def _long(records, tmp_path):
    return pa.table(
        {
            "user": [r["user"] for r in records for _ in r["items"]],
            "item": [x for r in records for x in r["items"]],
        }
    )


def _objects(records, tmp_path):
    full = [
        {"user": r["user"], "items": [{"item": x, "score": 0.5} for x in r["items"]]}
        for r in records
    ]
    return jsonl(tmp_path / "objects.jsonl", full)


def _parquet(records, tmp_path):
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "lists.parquet")
    return str(tmp_path / "lists.parquet")


def _folder(records, tmp_path):
    (tmp_path / "parts").mkdir()
    for i, record in enumerate(records):
        pq.write_table(pa.Table.from_pylist([record]), tmp_path / "parts" / f"{i}.parquet")
    return str(tmp_path / "parts")


def _gzipped(records, tmp_path):
    (tmp_path / "lists.jsonl.gz").write_bytes(
        gzip.compress("\n".join(map(json.dumps, records)).encode())
    )
    return str(tmp_path / "lists.jsonl.gz")


def _csv(records, tmp_path):
    lines = ["user_id,item_id", *(f"{r['user']},{x}" for r in records for x in r["items"])]
    (tmp_path / "lists.csv").write_text("\n".join(lines))
    return str(tmp_path / "lists.csv")


@pytest.mark.parametrize("form", [_long, _objects, _parquet, _folder, _gzipped, _csv])
def test_every_form_of_file_scores_the_same(tmp_path, truth, form):
    expected = score_file(pa.Table.from_pylist(RECS), pa.Table.from_pylist(TRUTH), [1, 2])
    assert score_file(form(RECS, tmp_path), truth, [1, 2]) == expected


def test_numbers_as_ids_meet_the_same_ids_as_text(tmp_path):
    recs = jsonl(tmp_path / "recs.jsonl", [{"user": 7, "items": [10, 11]}])
    assert score_file(recs, pa.table({"user": ["7"], "items": [["11"]]}), [2])["recall@2"] == 1


def test_ids_of_a_csv_are_text(tmp_path):
    """As those of the logs are: 0012 is no 12, and a blank is none."""
    truth = jsonl(
        tmp_path / "truth.jsonl", [{"user": "007", "item": "0012"}, {"user": "8", "item": "1.50"}]
    )
    (tmp_path / "recs.csv").write_text("user,item\n007,0012\n007,12\n8,1.5\n8,1.50\n")
    found = score_file(str(tmp_path / "recs.csv"), truth, [1, 2])
    assert (found["recall@1"], found["recall@2"]) == (1 / 2, 1)
    long = jsonl(
        tmp_path / "long.jsonl",
        [{"user": "007", "items": [2**64]}, {"user": 8, "items": ["1.50", 3]}],
    )
    assert score_file(long, truth, [1])["recall@1"] == 1 / 2
    assert (
        score_file(long, pa.table({"user": ["007"], "items": [[str(2**64)]]}), [1])["recall@1"] == 1
    )


def test_several_queries_of_one_user_are_told_apart(tmp_path):
    recs = pa.table({"query": ["1", "2"], "user": ["u", "u"], "items": [["a"], ["b"]]})
    truth = pa.table({"query": ["2", "1"], "user": ["u", "u"], "item": ["b", "c"]})
    assert score_file(recs, truth, [1])["recall@1"] == 1 / 2
    with pytest.raises(BadData, match=r"one row.*2 of u.*column `query`"):
        score_file(recs.drop(["query"]), truth, [1])


def test_bad_files_are_explained(tmp_path, truth):
    with pytest.raises(UsageError, match=r"none at .*nowhere\.jsonl"):
        score_file(str(tmp_path / "nowhere.jsonl"), truth, [1])
    with pytest.raises(BadData, match=r"say the items: one of items.*user, list"):
        score_file(jsonl(tmp_path / "a.jsonl", [{"user": "u", "list": ["a"]}]), truth, [1])
    (tmp_path / "b.jsonl").write_text('{"user": "u", "items": ["a"')
    with pytest.raises(BadData, match=r"b\.jsonl failed"):
        score_file(str(tmp_path / "b.jsonl"), truth, [1])
    with pytest.raises(BadData, match=r"none is in both.*\['w', 'u', 'v'\].*\['U'\]"):
        score_file(jsonl(tmp_path / "c.jsonl", [{"user": "U", "items": ["a"]}]), truth, [1])
    with pytest.raises(BadData, match=r"whole numbers.*double"):
        score_file(jsonl(tmp_path / "d.jsonl", [{"user": 1.5, "items": ["a"]}]), truth, [1])
