"""A pipeline goes on after any edit of its features: by a warm start where shapes allow it, else
from scratch.
"""

import json
import shutil

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.shop import PIPELINE, lay_out
from tests.system.days import attempt, registry_of
from twinspire.cli.main import app
from twinspire_core.errors import UsageError

pytestmark = pytest.mark.system
PARENT, EDITED = "2024-03-03", "2024-03-04"
FEATURES = {
    "user": {"kind": "id", "tower": "query"},
    "history": {"kind": "history", "length": 5},
    "when": {"kind": "time"},
    "device": {"kind": "category", "tower": "query"},
    "city": {"kind": "category", "tower": "query", "from": "users"},
    "item": {"kind": "id", "tower": "item"},
    "kind": {"kind": "category", "tower": "item"},
    "title": {"kind": "text", "tower": "item"},
    "tags": {"kind": "categories", "tower": "item"},
    "look": {"kind": "vector", "tower": "item", "size": 3},
    "price": {"kind": "number", "tower": "item"},
    "sold": {"kind": "count", "days": 2},
    "item_age": {"kind": "age"},
}
# What a warm start can carry over, and what is then missing for the parent.
GENTLE = {
    "item_age": None,  # removed
    # Added; or, with the next one, renamed
    "cost": {"kind": "number", "tower": "item", "column": "price"},
    "price": None,
    "device": {"kind": "categories", "tower": "query", "separator": "|"},  # another kind
    "city": {"kind": "category", "tower": "item", "column": "kind"},  # in the other tower
}
MISSING = [
    "city (now gone, was a text)",
    "device (now a list of texts, was a text)",
    "item_age (now gone, was a number)",
    "price (now gone, was a number)",
]
# What it cannot.
HARSH = {
    "city": {"kind": "text", "tower": "query", "from": "users"},
    "look": {"kind": "vector", "tower": "item", "size": 4, "column": "wide"},  # another size
    "price": {"kind": "category", "tower": "item"},  # other kinds
    "tags": {"kind": "text", "tower": "item", "column": "kind"},
    "kind": {"kind": "categories", "tower": "item", "separator": "|"},
}
HARSHLY_MISSING = [
    "kind (now a list of texts, was a text)",
    "look (now a list of 4 numbers, was a list of 3 numbers)",
    "price (now a text, was a number)",
    "tags (now a text, was a list of texts)",
]


def write(file, **edits):
    """Writes the pipeline file with these features otherwise, or without those that are None."""
    named = {name: f for name, f in (FEATURES | edits).items() if f}
    tables = []
    for name, f in named.items():
        lines = (f"{key} = {json.dumps(value)}" for key, value in f.items())
        tables.append("\n".join([f"[features.{name}]", *lines]))
    head, tail = PIPELINE.split("[features.user]")[0], "[train]" + PIPELINE.split("[train]")[1]
    text = "\n".join([head, *tables, tail])
    for was, now in (
        ("train_days = 5", "train_days = 2"),
        ("epochs = 5", "epochs = 1"),
        ("deterministic = true", ""),
    ):
        text = text.replace(was, now)
    file.write_text(text)


def twinspire(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def parent_day(tmp_path_factory):
    """The shop after a day; not to be changed by tests."""
    folder = tmp_path_factory.mktemp("shop")
    file = lay_out(folder, days=4)
    file = next(folder.glob("items/*/part-0.parquet"))
    items = pl.read_parquet(file)
    look = [[float(n % 3), 1.0, 2.0, 3.0] for n in range(len(items))]
    tags = pl.Series("tags", [["a", "b"]] * len(items))
    items.with_columns(
        pl.Series("look", [row[:3] for row in look]), pl.Series("wide", look), tags
    ).write_parquet(file)
    write(file)
    twinspire("run", file, "--date", PARENT)
    return folder


@pytest.fixture
def shop(parent_day, tmp_path):
    """A copy of it to work on: its pipeline file."""
    shutil.copytree(parent_day, tmp_path / "shop")
    return tmp_path / "shop/shop.toml"


def unread(shop):
    return json.loads((attempt(shop, EDITED, "measure") / "metrics.json").read_text())[
        "parent_unread"
    ]


def baseline(shop):
    return json.loads((attempt(shop, EDITED, "measure") / "metrics.json").read_text())["holdout"][
        "baseline"
    ]


def score(shop, **more):
    """The measures of the live two-tower's lists for queries with these features more."""
    # Unknown ones, because a version fills in what it stores of a user.
    people = [f"new{n:03d}" for n in range(100)]
    context = {"when_hour": 9, "when_weekday": 2, **more}
    asked = [{"user": user, "history": ["i001", f"i{user[3:]}"], **context} for user in people]
    taken = [{"user": user, "items": [f"i{user[3:]}", f"i{user[3:5]}0"]} for user in people]
    for name, rows in (("asked", asked), ("taken", taken)):
        (shop.parent / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [shop.parent / f"{name}.jsonl" for name in ("asked", "taken")]
    recs = shop.parent / "recs.jsonl"
    options = ("--source", "two_tower", "--k", "50", "--out", recs, "--json")
    twinspire("recommend", shop, "--queries", files[0], *options)
    return twinspire("evaluate", shop, "--recs", recs, "--truth", files[1], "--json")["measures"][
        "file"
    ]


def test_edited_features_are_missing_from_requests_and_block_a_refresh(
    shop,
):
    without = score(shop)
    write(shop, **GENTLE)
    assert score(shop, device=["phone"]) == without and without["recall@10"] > 0
    with pytest.raises(
        UsageError,
        match=r"city, cost, device, item_age, price changed after .* was trained\. Train a day",
    ):
        twinspire("refresh", shop, "--date", PARENT)


def test_a_warm_start_works_where_shapes_allow_it(shop):
    write(shop, **GENTLE)
    before = registry_of(shop).live()
    answer = twinspire("recommend", shop, "--user", "u001", "-k", "3", "--json")
    assert answer["version"] == before and len(answer["items"]) == 3, (
        "the file is newer than the version"
    )
    twinspire("run", shop, "--date", EDITED)
    assert sorted(unread(shop)) == MISSING and baseline(shop)["recall@10"] > 0
    registry = registry_of(shop)
    version = registry.manifest(registry.live())
    assert version.parent == before and str(version.date) == EDITED
    notes = json.loads((registry.open() / "gate.json").read_text())["notes"]
    assert any(all(text in note for text in MISSING) for note in notes)


def test_changed_shapes_need_training_from_scratch_and_the_keys_are_named(shop):
    write(shop, **HARSH)
    before = registry_of(shop).live()
    twinspire("features", shop, "--date", EDITED, "--mode", "full")
    with pytest.raises(UsageError) as refused:
        twinspire("train", shop, "--date", EDITED)
    for key in ("city.kind", "look.size", "price", "tags.kind"):
        assert f"features.{key} now gives" in str(refused.value)
    assert "features.kind" not in str(refused.value) and "--mode full" in str(refused.value)
    twinspire("run", shop, "--date", EDITED, "--mode", "full")
    assert sorted(unread(shop)) == HARSHLY_MISSING and baseline(shop)["recall@10"] > 0
    assert registry_of(shop).live() != before
