import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.score_file import score_file
from tests.model.split_by_hand import RECS, TRUTH, jsonl
from twinspire_core.errors import BadData, UsageError


@pytest.fixture
def truth(tmp_path) -> str:
    return jsonl(tmp_path / "truth.jsonl", TRUTH)


def test_a_file_by_hand(tmp_path, truth):
    scores = score_file(jsonl(tmp_path / "recs.jsonl", RECS), truth, [1, 2])
    assert (scores["users"], scores["answered"]) == (3, 2)  # w was given nothing: a miss
    assert scores["recall@1"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert scores["recall@2"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert scores["hit_rate@2"] == pytest.approx(2 / 3)
    assert scores["mrr"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert "coverage@2" not in scores


def test_items_outside_the_corpus_count_as_misses(tmp_path, truth):
    corpus = jsonl(tmp_path / "corpus.jsonl", [{"item": x} for x in "abcd"])
    scores = score_file(jsonl(tmp_path / "recs.jsonl", RECS), truth, [2], corpus)
    assert scores["recall@2"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert scores["coverage@2"] == 3 / 4


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
    scores = score_file(str(tmp_path / "recs.csv"), truth, [1, 2])
    assert (scores["recall@1"], scores["recall@2"]) == (1 / 2, 1)
    lists = [{"user": "007", "items": [2**64]}, {"user": 8, "items": ["1.50", 3]}]
    long = jsonl(tmp_path / "long.jsonl", lists)
    assert score_file(long, truth, [1])["recall@1"] == 1 / 2
    digits = pa.table({"user": ["007"], "items": [[str(2**64)]]})
    assert score_file(long, digits, [1])["recall@1"] == 1


def test_several_queries_of_one_user_stay_separate(tmp_path):
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
