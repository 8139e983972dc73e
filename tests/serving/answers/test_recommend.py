import json
from datetime import datetime

import numpy as np
import pytest
from typer.testing import CliRunner

from serving.requests.request_model import ListRequest
from serving.version.loaded_version import Version
from tests.serving.answers.test_retrieval import ids
from tests.serving.asking import recommend, similar
from tests.serving.conftest import publish
from tests.twinspire_core.test_library_loading import printed
from twinspire.cli.ask import recommend_user, similar_items
from twinspire.cli.main import app
from twinspire_core.errors import UsageError

NOON = datetime(2024, 1, 3, 7)


def nearest(place: float) -> list[str]:
    """Items 30 degrees apart, by their distance from a place between two of them."""
    by_distance = sorted(range(12), key=lambda n: min((n - place) % 12, (place - n) % 12))
    return [f"i{n:02d}" for n in by_distance]


def test_a_stored_user_gets_the_items_near_the_last_one(version):
    answer = recommend(version, [{"user": "anna"}], 4)
    assert ids(version, answer)[0] == "i05"
    assert set(ids(version, answer)[1:3]) == {"i04", "i06"}
    np.testing.assert_allclose(answer.scores[0, :2], [1, np.cos(np.pi / 6)], atol=1e-6)
    assert answer.known.tolist() == [True]


def test_what_a_request_gives_wins_over_what_is_stored(version):
    anna, ben = {"user": "anna", "history": ["i10"]}, {"user": "ben"}
    answer = recommend(version, [anna, ben, {**ben, "place": 2.1}], 3)
    assert ids(version, answer, 0)[0] == "i10"
    assert ids(version, answer, 1)[0] == "i09"
    assert ids(version, answer, 2) == nearest(2.1)[:3]


def test_an_unknown_user_is_answered_from_the_context_alone(version):
    answer = recommend(version, [{"user": "who", "place": 3.2}, {"place": 3.2}, {}], 5, now=NOON)
    assert ids(version, answer, 0) == ids(version, answer, 1) == nearest(3.2)[:5]
    assert answer.known.tolist() == [False] * 3
    assert answer.list_sources == ["two_tower", "two_tower", "popular"]
    assert answer.bases == ["features", "features", "nothing"]
    near = recommend(version, [{}], 1, source="two_tower", now=NOON)
    assert ids(version, near) == ["i07"], "the hour of the request, when nothing else is known"


def test_a_time_is_now_and_not_when_the_user_was_stored(version):
    # The towers look at the hour only when there is neither history nor place.
    asked = [{"user": "cat"}, {"user": "cat", "when_hour": 4}, {}]
    answer = recommend(version, asked, 1, source="two_tower", now=NOON)
    assert [ids(version, answer, n)[0] for n in range(3)] == ["i07", "i04", "i07"]


def test_seen_items_stay_out(version):
    requests = [
        {"user": "anna"},
        {"history": ["i01", "nowhere", "i02", "i00", "i11"]},
        {"place": 6.2, "exclude": ["i06"]},
    ]
    answer = recommend(version, requests, 4, exclude_seen=True)
    assert not {"i03", "i04", "i05"} & set(ids(version, answer, 0)), (
        "the stored past, of which the history is a part"
    )
    assert not {"i00", "i01", "i02", "i11"} & set(ids(version, answer, 1)), (
        "also what the history feature is too short for"
    )
    assert ids(version, answer, 2) == nearest(6.2)[1:5]
    kept = recommend(version, requests, 4)
    assert [ids(version, kept, n)[0] for n in range(2)] == ["i05", "i11"], (
        "the newest of a long history"
    )
    assert ids(version, kept, 2) == nearest(6.2)[1:5], "`exclude` holds whatever the switch says"


def test_a_list_that_runs_short_says_so(version):
    everything = [f"i{n:02d}" for n in range(10)]
    answer = recommend(version, [{"place": 3.2, "exclude": everything}, {"place": 3.2}], 5)
    assert sorted(ids(version, answer, 0)) == ["i10", "i11"]
    assert np.isnan(answer.scores[0, 2:]).all()
    assert len(ids(version, answer, 1)) == 5
    assert "2 items instead of 5" in answer.warnings.of(0)[0] and not answer.warnings.of(1)


def test_similar_items_are_the_neighbours_without_the_item(version):
    answer = similar(version, "i04", 4)
    assert set(ids(version, answer)[:2]) == {"i03", "i05"}
    assert "i04" not in ids(version, answer)
    everything = similar(version, "i04", 12)
    assert len(ids(version, everything)) == 11
    assert everything.warnings.of(0)


def test_an_item_outside_the_catalogue_is_reported(version):
    with pytest.raises(UsageError, match=r"no item 'i4'\. Did you mean i04"):
        similar(version, "i4", 3)


def test_k_is_at_least_one(version):
    with pytest.raises(UsageError, match="at least 1"):
        recommend(version, [{}], 0)


def test_without_a_user_store_the_request_itself_is_all(without_users):
    answer = recommend(
        without_users, [{"user": "anna"}, {"user": "anna", "history": ["i02"]}], 2, now=NOON
    )
    assert answer.known is None
    assert [ids(without_users, answer, n)[0] for n in range(2)] == ["i07", "i02"]


def test_looking_up_a_user_without_a_store_fails_with_a_remedy(without_users, pipeline):
    with pytest.raises(UsageError, match=r'serving\.user_store = true(?s:.*)"user": "anna"'):
        recommend_user(pipeline, "anna", ListRequest())


def test_the_printed_answer(version, pipeline, capsys, monkeypatch):
    monkeypatch.setattr("twinspire.cli.ask.standard_output.width", 120)
    recommend_user(pipeline, "anna", ListRequest(k=3))
    said = capsys.readouterr().out
    assert "History of anna" in said
    assert said.index("i05") < said.index("i03"), "newest first"
    assert "Item [6]" in said, "names are text, not markup"
    assert "red" in said
    recommend_user(pipeline, "who", ListRequest(k=3))
    said = capsys.readouterr().out
    assert "no history" in said
    assert "unknown" in said
    similar_items(pipeline, "i04", ListRequest(k=20))
    said = capsys.readouterr().out
    assert "Like i04 (Item [4])" in said
    assert "all are listed" in said


def test_long_names_are_cut_in_a_table(pipeline, towers, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("twinspire.cli.ask.standard_output.width", 120)
    long = "x" * 20_000
    publish(pipeline, towers, tmp_path / "staged", titles=[long] * 12)
    similar_items(pipeline, "i04", ListRequest(k=3))
    said = capsys.readouterr().out
    assert "…" in said and said.count("x") < 4 * 120


@pytest.fixture
def without_seen(pipeline, towers, tmp_path) -> Version:
    """A version that was published with `serving.exclude_seen`."""
    settings = {"serving": {"exclude_seen": True}}
    publish(pipeline, towers, tmp_path / "without", "2024-01-02", settings=settings)
    return Version.open(pipeline)


@pytest.mark.parametrize(
    ("said", "first"), [([], "i06"), (["--exclude-seen"], "i06"), (["--keep-seen"], "i05")]
)
def test_a_command_may_say_otherwise(without_seen, pipeline_file, tmp_path, said, first):
    command = ["recommend", str(pipeline_file), "--json", "-k", "1", *said]
    told = CliRunner().invoke(app, [*command, "--user", "anna"], catch_exceptions=False).stdout
    answer = json.loads(told)
    assert answer["items"][0]["item"] == first and answer["exclude_seen"] == (first == "i06")
    queries, recs = tmp_path / "queries.jsonl", tmp_path / "recs.jsonl"
    queries.write_text('{"user": "anna"}\n')
    in_bulk = [*command, "--queries", str(queries), "--out", str(recs)]
    counts = json.loads(CliRunner().invoke(app, in_bulk, catch_exceptions=False).stdout)
    assert json.loads(recs.read_text())["items"] == [first]
    assert counts["exclude_seen"] == (first == "i06")


def test_the_answer_as_json(version, pipeline, capsys):
    recommend_user(pipeline, "anna", ListRequest(k=2, exclude_seen=True), as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["history"] == [
        {"item": "i05", "name": "Item [5]", "colour": None},
        {"item": "i03", "name": "Item [3]", "colour": None},
    ]
    assert said["known"] is True
    assert said["version"] == version.id
    assert said["items"][0]["item"] == "i06"
    assert said["items"][0]["score"] == pytest.approx(np.cos(np.pi / 6), abs=1e-5)
    similar_items(pipeline, "i04", ListRequest(k=2), as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["item"]["name"] == "Item [4]"
    assert {item["item"] for item in said["items"]} == {"i03", "i05"}


def test_a_tower_is_loaded_by_a_part_of_tensorflow_and_the_rest_is_there_when_asked_for(towers):
    tower = towers / "query_tower"
    code = f"""
import sys
import pyarrow as pa
from twinspire_core.native_code import load_saved_model
from twinspire_core.contracts.model_bundle import Tower
rows = pa.table({{"place": [1.0, 2.0]}})
vectors = Tower(load_saved_model({str(tower)!r}))(rows)
print(any(name.startswith("tensorflow._api") for name in sys.modules))
import tensorflow as tf
print(tf.reduce_sum(tf.constant([1, 2])).numpy(), hasattr(tf, "nobody_made_this"))
print((Tower(tf.saved_model.load({str(tower)!r}))(rows) == vectors).all(), vectors.shape[0])
"""
    assert printed(code) == ["False", "3 False", "True 2"]
