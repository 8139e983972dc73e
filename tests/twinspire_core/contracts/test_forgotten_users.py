from types import SimpleNamespace

import polars as pl
import pytest

from tests.traces import holders
from twinspire_core.contracts import forgotten_users
from twinspire_core.contracts.forgotten_users import NOBODY
from twinspire_core.errors import BadData


@pytest.fixture
def pipeline(tmp_path):
    return SimpleNamespace(name="shop", registry=SimpleNamespace(root=str(tmp_path / "registry")))


def test_who_is_added_is_known_and_nobody_else(pipeline):
    assert forgotten_users.find(pipeline) == NOBODY and "ann" not in NOBODY
    forgotten_users.add(pipeline, ["ann", "bé"])
    forgotten_users.add(pipeline, ["ann"])
    users = forgotten_users.find(pipeline)
    assert len(users.digests) == 2
    assert [user in users for user in ("ann", "bé", "anna", "an", "")] == [True, True, *[False] * 3]


def test_rows_go_by_user_and_those_of_nobody_stay(pipeline):
    forgotten_users.add(pipeline, ["7"])
    users = forgotten_users.find(pipeline)
    rows = pl.DataFrame({"_user": ["7", "17", None, "7", "8"], "_item": ["7", "7", "7", "1", "2"]})
    assert users.drop(rows).rows() == [("17", "7"), (None, "7"), ("8", "2")]
    items = rows.drop("_user")
    assert users.drop(items) is items
    assert NOBODY.drop(rows) is rows


def test_the_list_does_not_say_who_is_on_it_and_two_lists_cannot_be_compared(pipeline, tmp_path):
    other = SimpleNamespace(name="other", registry=pipeline.registry)
    for shop in (pipeline, other):
        forgotten_users.add(shop, ["somebody@example.org"])
    assert not holders(tmp_path, "somebody")
    first, second = (forgotten_users.find(shop).digests for shop in (pipeline, other))
    assert len(first) == len(second) == 1 and first != second


@pytest.mark.parametrize("damage", ["lost", "short"])
def test_a_list_without_its_key_is_no_list(pipeline, damage, tmp_path):
    forgotten_users.add(pipeline, ["ann"])
    key = tmp_path / "registry/shop/forgotten/key"
    key.unlink() if damage == "lost" else key.write_bytes(b"short")
    with pytest.raises(BadData, match="would not recognise the users"):
        forgotten_users.find(pipeline)
