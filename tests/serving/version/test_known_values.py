"""Values of features that a version was trained without are reported; they are answered all the
same.
"""

import json

import pytest

from serving.version.loaded_version import Version
from tests.serving import conftest as circle
from tests.serving.asking import recommend, recommend_lines
from twinspire_core.config.pipeline import Pipeline, load

FEATURES = """
device = { kind = "category", tower = "query" }
likes = { kind = "categories", tower = "query" }
town = { kind = "text", tower = "query" }
"""


@pytest.fixture
def pipeline(tmp_path) -> Pipeline:
    (tmp_path / "circle.toml").write_text(circle.PIPELINE + FEATURES)
    return load(tmp_path / "circle.toml")


@pytest.fixture
def version(pipeline, towers, tmp_path) -> Version:
    """Its query tower keeps the vocabularies that TFT would have made; `town` is hashed."""
    assets = tmp_path / "staged" / "query_tower" / "assets"
    assets.mkdir(parents=True)
    (assets / "device").write_text("phone\npc\n")
    (assets / "likes").write_text("".join(f"t{n}\n" for n in range(9)))
    circle.publish(pipeline, towers, tmp_path / "staged")
    return Version.open(pipeline)


REQUESTS = [
    {"device": "phone", "likes": ["t0", "t8"], "town": "Ulm"},
    {"device": "phnoe"},
    {"likes": ["x", "t1", "y", "x"], "device": ""},
    {"user": "anna"},
]


def test_values_outside_the_vocabulary_are_reported_for_their_query(version):
    answer = recommend(version, REQUESTS, 3)
    of_device = f"{version.id} was trained without device 'phnoe'; with 'phone', 'pc'"
    of_likes = (
        f"{version.id} was trained without likes 'x', 'y'; with 't0', 't1', 't2', 't3', 't4', …"
    )
    assert [answer.warnings.of(n) for n in range(4)] == [(), (of_device,), (of_likes,), ()]
    assert answer.warnings.of_values() == (of_device, of_likes)
    assert answer.counts.tolist() == [3] * 4


def test_the_command_tells_them_once(version, tmp_path):
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(one) + "\n" for one in REQUESTS * 2))
    done = recommend_lines(version, str(tmp_path / "q.jsonl"), str(tmp_path / "r.jsonl"), 3)
    assert [note.split("; ")[0] for note in done["notes"]] == [
        f"{version.id} was trained without {value}"
        for value in ("device 'phnoe'", "likes 'x', 'y'")
    ]
