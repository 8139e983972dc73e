from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.score_version import VersionParts, score_file, score_version
from tests.model.split_by_hand import ITEMS, RECS, SHUFFLED, TRUTH, jsonl
from tests.serving import rankers
from twinspire_core.errors import BadData, UsageError
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.sources.co_occurrence import SCHEMA
from twinspire_core.sources.source import SourceTables

# Device -> what it likes: ca, bd, d
AXIS = {"phone": [1, 0, 2, 0], "tv": [0, 3, 0, 1], None: [0, 0, 0, 1]}


def by_device(asked: pa.Table) -> np.ndarray:
    return np.array([AXIS[device] for device in asked.column("device").to_pylist()], np.float32)


VERSION = VersionParts(embed=by_device, vectors=SHUFFLED, tables=SourceTables(corpus=ITEMS))


def near(items, rows, similarities) -> pa.Table:
    """What was taken together with each item."""
    columns = {"_item": items, "_rows": rows, "_similarities": similarities}
    return pa.Table.from_pydict(columns, SCHEMA)


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
    with pytest.raises(BadData, match=r"Feature recent must be list<.*the queries have string"):
        truth = pa.table({"user": ["u"], "item": ["a"]})
        score_version(VERSION, queries, truth, tiny.pipeline(), [1])


def test_an_item_without_a_vector_is_an_error(tiny):
    queries = pa.table({"user": ["u"]})
    with pytest.raises(BadData, match=r"1 of 4 have none"):
        truth = pa.table({"user": ["u"], "item": ["a"]})
        lacking = replace(VERSION, vectors=SHUFFLED.slice(1))
        score_version(lacking, queries, truth, tiny.pipeline(), [1])


def test_a_ranker_is_measured_by_its_own_lists(tiny):
    """By the place in the two-tower's list, which holds all that passes: its own order again."""
    places = ("place:history", "place:two_tower")
    carried = rankers.files(("history", "two_tower"), places, lambda rows: -rows[:, 1])
    ranker = Ranker.parse(carried["ranker.txt"], carried["ranker.json"])
    queries = pa.table({"user": ["v", "u"], "device": ["tv", "phone"], "recent": [["d"], ["d"]]})
    truth = pa.table({"user": ["u", "v"], "items": [["c"], ["b"]]})
    given = (queries, truth, tiny.pipeline(), [1, 2])
    found = score_version(replace(VERSION, ranker=ranker), *given)
    counted = {"recall@1", "recall@2", "mrr", "ndcg@2", "coverage@1", "answered"}
    for name in counted:
        assert found["ranked"][name] == found["two_tower"][name], name
    assert found["purchase_history"]["recall@1"] == 0 and found["ranked"]["recall@1"] == 1
    assert "ranked" not in score_version(VERSION, *given)


def test_a_history_is_read_as_a_server_reads_it(tiny):
    """The user had b twice, and a since: a is the newest, b what was had most often."""
    items = pa.table({"_item": list("abcd"), "_popular": [0] * 4, "_lately": [0] * 4})
    together = {"co_occurrence": near(["a", "b"], [[2], [3]], [[0.5], [0.5]])}
    tables = SourceTables(corpus=items, others=together)
    features = ("personal:all", "personal_age")
    carried = rankers.files(("co_occurrence", "history"), features, lambda rows: rows[:, 0])
    version = VersionParts(
        embed=lambda asked: np.ones((asked.num_rows, 2), np.float32),
        vectors=pa.table({"_item": list("abcd"), "vector": [[1.0, 0.0]] * 4}),
        tables=tables,
        ranker=Ranker.parse(carried["ranker.txt"], carried["ranker.json"]),
    )
    queries = pa.table({"user": ["u"], "history": [["b", "b", "a"]]})

    def first(source, item):
        truth = pa.table({"user": ["u"], "item": [item]})
        return score_version(version, queries, truth, tiny.pipeline(), [1])[source]["recall@1"]

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
    rows = [{"user": r["user"], "item": x} for r in records for x in r["items"]]
    return pa.Table.from_pylist(rows)


def _objects(records, tmp_path):
    full = [r | {"items": [{"item": x, "score": 0.5} for x in r["items"]]} for r in records]
    return jsonl(tmp_path / "objects.jsonl", full)


def _folder(records, tmp_path):
    (tmp_path / "parts").mkdir()
    for i, record in enumerate(records):
        pq.write_table(pa.Table.from_pylist([record]), tmp_path / "parts" / f"{i}.parquet")
    return str(tmp_path / "parts")


def _csv(records, tmp_path):
    lines = ["user_id,item_id", *(f"{r['user']},{x}" for r in records for x in r["items"])]
    (tmp_path / "lists.csv").write_text("\n".join(lines))
    return str(tmp_path / "lists.csv")


@pytest.mark.parametrize("form", [_long, _objects, _folder, _csv])
def test_every_form_of_file_scores_the_same(tmp_path, truth, form):
    expected = score_file(pa.Table.from_pylist(RECS), pa.Table.from_pylist(TRUTH), [1, 2])
    assert score_file(form(RECS, tmp_path), truth, [1, 2]) == expected


def test_numbers_as_ids_meet_the_same_ids_as_text(tmp_path):
    recs = jsonl(tmp_path / "recs.jsonl", [{"user": 7, "items": [10, 11]}])
    assert score_file(recs, pa.table({"user": ["7"], "items": [["11"]]}), [2])["recall@2"] == 1


def test_ids_of_a_csv_are_text(tmp_path):
    """As those of the logs are: 0012 is no 12, and a blank is none."""
    taken = [{"user": "007", "item": "0012"}, {"user": "8", "item": "1.50"}]
    truth = jsonl(tmp_path / "truth.jsonl", taken)
    (tmp_path / "recs.csv").write_text("user,item\n007,0012\n007,12\n8,1.5\n8,1.50\n")
    found = score_file(str(tmp_path / "recs.csv"), truth, [1, 2])
    assert (found["recall@1"], found["recall@2"]) == (1 / 2, 1)
    lists = [{"user": "007", "items": [2**64]}, {"user": 8, "items": ["1.50", 3]}]
    long = jsonl(tmp_path / "long.jsonl", lists)
    assert score_file(long, truth, [1])["recall@1"] == 1 / 2
    digits = pa.table({"user": ["007"], "items": [[str(2**64)]]})
    assert score_file(long, digits, [1])["recall@1"] == 1


def test_several_queries_of_one_user_are_told_apart(tmp_path):
    recs = pa.table({"query": ["1", "2"], "user": ["u", "u"], "items": [["a"], ["b"]]})
    truth = pa.table({"query": ["2", "1"], "user": ["u", "u"], "item": ["b", "c"]})
    assert score_file(recs, truth, [1])["recall@1"] == 1 / 2
    with pytest.raises(BadData, match=r"one row; u has 2 of .*column `query`"):
        score_file(recs.drop(["query"]), truth, [1])


def test_bad_files_are_explained(tmp_path, truth):
    with pytest.raises(UsageError, match=r"no file at .*nowhere\.jsonl"):
        score_file(str(tmp_path / "nowhere.jsonl"), truth, [1])
    with pytest.raises(BadData, match=r"column with the items, named items.*user, list"):
        score_file(jsonl(tmp_path / "a.jsonl", [{"user": "u", "list": ["a"]}]), truth, [1])
    (tmp_path / "b.jsonl").write_text('{"user": "u", "items": ["a"')
    with pytest.raises(BadData, match=r"b\.jsonl cannot be read"):
        score_file(str(tmp_path / "b.jsonl"), truth, [1])
    with pytest.raises(BadData, match=r"users in common.*\['w', 'u', 'v'\].*\['U'\]"):
        score_file(jsonl(tmp_path / "c.jsonl", [{"user": "U", "items": ["a"]}]), truth, [1])
    with pytest.raises(BadData, match=r"whole numbers.*double"):
        score_file(jsonl(tmp_path / "d.jsonl", [{"user": 1.5, "items": ["a"]}]), truth, [1])
