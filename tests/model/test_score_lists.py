"""Scoring files and versions on a split given as files, against numbers by hand."""

import gzip
import json
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from index_builder.registry.registry import Registry
from model.score_lists import score_file, score_version
from tests.serving import rankers
from twinspire_core import storage
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.manifest import File, Manifest
from twinspire_core.errors import BadData, UsageError
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.ranking.ranker import Ranker

RECS = [
    {"user": "u", "items": ["a", "b", "c"]},
    {"user": "v", "items": ["c", "x"]},
    {"user": "other", "items": ["a"]},
]
TRUTH = [
    {"user": "w", "items": ["a"]},
    {"user": "u", "items": ["c", "a", "c"]},
    {"user": "v", "items": ["x"]},
]


def jsonl(path, records) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


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


ITEMS = pa.table({"_item": list("abcd"), "_popular": [4, 3, 2, 1], "_lately": [0, 0, 0, 9]})
SHUFFLED = pa.table(
    {
        "_item": list("dbca"),
        "vector": pa.array(
            np.eye(4, dtype=np.float32)[[3, 1, 2, 0]].tolist(), pa.list_(pa.float32(), 4)
        ),
    }
)
# Device -> what it likes: ca, bd, d
AXIS = {"phone": [1, 0, 2, 0], "tv": [0, 3, 0, 1], None: [0, 0, 0, 1]}


def by_device(asked: pa.Table) -> np.ndarray:
    return np.array([AXIS[device] for device in asked.column("device").to_pylist()], np.float32)


def test_a_version_is_asked_raw_features(tiny):
    queries = pa.table(
        {"user": ["v", "u"], "device": ["tv", "phone"], "recent": [["b"], ["a", "zz"]]}
    )
    truth = pa.table({"user": ["u", "v", "w"], "items": [["a"], ["b"], ["d"]]})
    found = score_version(by_device, ITEMS, SHUFFLED, queries, truth, tiny.pipeline(), [1, 2])
    towers = found["two_tower"]
    assert (towers["users"], towers["answered"]) == (3, 2)
    # W: asked with its features missing
    assert towers["recall@1"] == pytest.approx((0 + 1 + 1) / 3)
    assert towers["recall@2"] == 1
    # U and v took what they had
    assert towers["excluded"]["recall@2"] == pytest.approx((0 + 0 + 1) / 3)
    assert found["past"]["recall@1"] == pytest.approx(2 / 3)
    assert found["popular_lately"]["recall@1"] == pytest.approx(1 / 3)


def test_a_history_goes_by_the_name_that_requests_give_it(tiny):
    truth = pa.table({"user": ["u", "v"], "items": [["a"], ["b"]]})
    lists = {"user": ["v", "u"], "device": ["tv", "phone"], "recent": [["b"], ["a"]]}
    named = score_version(
        by_device, ITEMS, SHUFFLED, pa.table(lists), truth, tiny.pipeline(), [1, 2]
    )
    lists["history"] = lists.pop("recent")
    assert (
        score_version(by_device, ITEMS, SHUFFLED, pa.table(lists), truth, tiny.pipeline(), [1, 2])
        == named
    )
    assert named["past"]["recall@1"] == 1


def test_a_feature_of_the_wrong_type_is_named(tiny):
    queries = pa.table({"user": ["u"], "recent": ["a"]})
    with pytest.raises(BadData, match=r"Feature recent is list<.*the queries hold string"):
        score_version(
            by_device,
            ITEMS,
            SHUFFLED,
            queries,
            pa.table({"user": ["u"], "item": ["a"]}),
            tiny.pipeline(),
            [1],
        )


def test_an_item_without_a_vector_is_an_error(tiny):
    queries = pa.table({"user": ["u"]})
    with pytest.raises(BadData, match=r"1 of 4 have none"):
        truth = pa.table({"user": ["u"], "item": ["a"]})
        score_version(by_device, ITEMS, SHUFFLED.slice(1), queries, truth, tiny.pipeline(), [1])


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
    mix = Fusion(
        sources=("co_occurrence", "two_tower"),
        bounds=(1,),
        weights=np.array([[1, 0.1]] * 2),
        fitted=FittedOn(),
    )
    given, passing = (
        (by_device, ITEMS, SHUFFLED, queries, truth, tiny.pipeline()),
        np.array([True, True, False, False]),
    )
    found = score_version(
        *given, [1], tables={"co_occurrence": together}, fusion=mix, passing=passing
    )
    assert {(m["users"], m["left_out"], m["items"]) for m in found.values()} == {(2, 1, 2)}
    recalls = {name: measures["recall@1"] for name, measures in found.items()}
    popular = {"most_popular": 0.5, "popular_lately": 0.5, "past": 0.0, "co_occurrence": 0.5}
    assert recalls == {"two_tower": 1.0, "mix": 1.0, **popular}
    assert found["two_tower"]["coverage@1"] == 1.0
    with pytest.raises(BadData, match="none of 5 does"):
        score_version(*given, [1], passing=np.zeros(4, bool))


@pytest.mark.parametrize("passing", [None, np.array([True, False, True, True])])
def test_a_ranker_is_measured_by_its_own_lists(tiny, passing):
    """By the place in the two-tower's list, which holds all that passes: its own order again."""
    carried = rankers.files(
        ("past", "two_tower"), ("place:past", "place:two_tower"), lambda rows: -rows[:, 1]
    )
    ranker = Ranker.parse(carried["ranker.txt"], carried["ranker.json"])
    queries = pa.table({"user": ["v", "u"], "device": ["tv", "phone"], "recent": [["d"], ["d"]]})
    truth = pa.table({"user": ["u", "v"], "items": [["c"], ["b"]]})
    given = (by_device, ITEMS, SHUFFLED, queries, truth, tiny.pipeline(), [1, 2])
    found = score_version(*given, ranker=ranker, passing=passing)
    counted = {"recall@1", "recall@2", "mrr", "ndcg@2", "coverage@1", "answered"}
    for name in counted:
        assert found["ranked"][name] == found["two_tower"][name], name
    assert found["past"]["recall@1"] == 0 and found["ranked"]["recall@1"] == 1
    assert "ranked" not in score_version(*given, passing=passing)


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
        given = (
            items,
            vectors,
            queries,
            pa.table({"user": users, "items": took}),
            tiny.pipeline(tiny.features),
        )
        return score_version(lambda _: asked[left], *given, [1, 5], **filtered)

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


PIPELINE = """
[pipeline]
name = "tiny"
[source]
events = "events/dt={date}/"
[columns]
user = "shopper"
item = "item"
time = "time"
[features]
device = { kind = "category", tower = "query" }
item = { kind = "id", tower = "item" }
[corpus]
attributes = ["kind"]
[evaluation]
ks = [1, 2]
[gate]
metric = "recall@2"
"""


class _Tower(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="device")])
    def serve(self, device):
        return {"vector": tf.one_hot(tf.where(device == b"tv", 1, 0), 4)}


def _publish(tmp_path, registry: Registry) -> str:
    from datetime import date

    staged = tmp_path / "staged"
    tower = _Tower()
    tf.saved_model.save(tower, str(staged / "query_tower"), {"serving_default": tower.serve})
    (staged / "vectors").mkdir()
    pq.write_table(SHUFFLED, staged / "vectors" / "0.parquet")
    pq.write_table(
        ITEMS.append_column("_attribute_kind", [["old"] * 3 + ["new"]]), staged / "items.parquet"
    )
    files = {
        f.path: File(sha256=storage.file_digest(f.uri), size=f.size)
        for f in storage.list_files(str(staged))
    }
    manifest = Manifest.create(
        pipeline="tiny", day=date(2024, 5, 20), files=files, items=4, dimension=4
    )
    registry.publish(str(staged), manifest, accepted=True, reason="test", promote="auto")
    return manifest.version


def _cells(table: str) -> set[str]:
    return set(re.split(r"\s{2,}|(?<=recall) |\n", table))


def _run(*arguments: str):
    from twinspire.cli.main import app

    return CliRunner().invoke(app, ["evaluate", *arguments], catch_exceptions=False)


def test_the_command_scores_the_live_version(tmp_path):
    (tmp_path / "tiny.toml").write_text(PIPELINE)
    version = _publish(tmp_path, Registry(str(tmp_path / "registry"), "tiny"))
    queries = jsonl(
        tmp_path / "q.jsonl", [{"shopper": 1, "device": "tv"}, {"shopper": 2, "device": "phone"}]
    )
    truth = jsonl(
        tmp_path / "t.jsonl", [{"shopper": 1, "items": ["b"]}, {"shopper": 2, "items": ["b"]}]
    )
    result = _run(str(tmp_path / "tiny.toml"), "--queries", queries, "--truth", truth, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["version"] == version
    assert found["measures"]["two_tower"]["recall@1"] == 1 / 2
    assert found["measures"]["most_popular"]["recall@2"] == 1
    assert {"recall", "@1", "@2", "two-tower", "most popular", "95% from", "coverage"} <= _cells(
        result.stderr
    )
    assert "users, 0" not in result.stderr
    sliced = _run(
        str(tmp_path / "tiny.toml"),
        "--queries",
        queries,
        "--truth",
        truth,
        "--slices",
        "--version",
        version,
    )
    assert {"two-tower", "users, 0", "true items, 1-4"} <= _cells(
        sliced.stderr
    ) and sliced.stdout == ""
    assert max(map(len, (result.stderr + sliced.stderr).splitlines())) <= 80
    command = [
        str(tmp_path / "tiny.toml"),
        "--queries",
        queries,
        "--truth",
        truth,
        "--deny",
        "kind=new",
        "--json",
    ]
    filtered = _run(*command)
    assert json.loads(filtered.stdout)["deny"] == {"kind": ["new"]}
    assert json.loads(filtered.stdout)["measures"]["two_tower"]["items"] == 3
    assert "Of the 3 items that pass" in filtered.stderr and "0 users took none" in " ".join(
        filtered.stderr.split()
    )
    assert "has kind" in _run(*command, "--allow", "kind=odd", "--allow", "kind=old").stderr


def test_nothing_but_the_command_speaks(tmp_path):
    """In a process of its own, in which TensorFlow has still to be loaded: it greets at length
    otherwise.
    """
    (tmp_path / "tiny.toml").write_text(PIPELINE)
    _publish(tmp_path, Registry(str(tmp_path / "registry"), "tiny"))
    files = [
        jsonl(tmp_path / f"{name}.jsonl", [{"shopper": 1, "device": "tv", "items": ["b"]}])
        for name in ("q", "t")
    ]
    command = [sys.executable, "-m", "twinspire", "evaluate", str(tmp_path / "tiny.toml")]
    ended = subprocess.run(
        [*command, "--queries", files[0], "--truth", files[1]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "" and ended.stderr.lstrip().startswith("2024-05-20-")
    assert not re.findall("WARNING|TensorFlow|oneDNN|cuda|absl", ended.stderr)


def test_the_command_scores_a_file(tmp_path, truth):
    (tmp_path / "tiny.toml").write_text(PIPELINE)
    recs = jsonl(tmp_path / "recs.jsonl", RECS)
    result = _run(
        str(tmp_path / "tiny.toml"), "--recs", recs, "--truth", truth, "-k", "2", "--json"
    )
    assert json.loads(result.stdout.splitlines()[-1])["measures"]["file"][
        "recall@2"
    ] == pytest.approx(1 / 2)
    result = _run(str(tmp_path / "tiny.toml"), "--recs", recs, "--truth", truth, "--slices")
    assert "No slices: a file of recommendations does not tell users' pasts." in " ".join(
        result.stderr.split()
    )
    with pytest.raises(UsageError, match="file of recommendations is scored as it is"):
        _run(str(tmp_path / "tiny.toml"), "--recs", recs, "--truth", truth, "--allow", "kind=x")
    with pytest.raises(UsageError, match="--queries to score a version, or --recs"):
        _run(str(tmp_path / "tiny.toml"), "--truth", truth)


def test_a_mix_is_scored_beside_its_sources(tiny):
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
    mix = Fusion(
        sources=("past", "two_tower"),
        bounds=(2,),
        weights=np.array([[0.01, 1], [1, 0.01]]),
        fitted=FittedOn(),
    )
    queries = pa.table({"user": ["u", "v"], "recent": [["b", "c", "b"], ["a"]]})
    truth = pa.table({"user": ["u", "v"], "items": [["b"], ["d"]]})

    def towers_say_d(asked):
        return np.tile(np.array([[0, 0.1, 0.2, 1]], np.float32), (asked.num_rows, 1))

    given = (towers_say_d, items, vectors, queries, truth, tiny.pipeline(tiny.features))
    found = score_version(*given, [1], tables={"co_occurrence": together}, fusion=mix)
    recalls = {name: measures["recall@1"] for name, measures in found.items()}
    assert recalls == {
        "two_tower": 0.5,
        "mix": 1.0,
        "most_popular": 0.0,
        "popular_lately": 0.5,
        "past": 0.5,
        "co_occurrence": 0.5,
    }
    assert list(found)[:2] == ["two_tower", "mix"]
