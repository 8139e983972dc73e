import os
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.training import checkpoint
from tests.shop import PIPELINE
from tests.traces import holders
from twinspire.cli import forget as forgetting
from twinspire.cli.forget import _forget, _tell
from twinspire.runs import run_leases
from twinspire_core import storage
from twinspire_core.config.pipeline import load
from twinspire_core.contracts import day_metrics
from twinspire_core.contracts.day_metrics import ExampleList

USERS = frozenset(["u7", "forget-me"])
DAY = "work/shop/dt=2024-03-09"


@pytest.fixture
def shop(tmp_path):
    """A shop whose users are a feature under a second name, too."""
    account = '[features.account]\nkind = "category"\ntower = "query"\ncolumn = "user_id"\n'
    (tmp_path / "shop.toml").write_text(PIPELINE + account)
    return load(tmp_path / "shop.toml")


def put(folder, path, content=b"[u7, u8]") -> None:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


def state(values) -> checkpoint.TableState:
    keys = pa.array(["", "=u1", "=u7", "=forget-me", "oov:7"])
    data = {"left": pa.nulls(5, pa.date32()), "shared": 1, "hashed": False}
    return checkpoint.TableState(keys=keys, values=values, slots=values, **data)


def test_no_working_file_holds_them_and_all_else_stays(shop, tmp_path):
    values = np.arange(10, dtype=np.float32).reshape(5, 2)
    for stage in ("features", "train", "measure", "embed", "refresh", "index"):
        put(tmp_path, f"{DAY}/{stage}/0001-a/DONE.json", b"{}")
    for path in (
        "features/0001-a/examples/00.parquet",
        "features/0002-b/rejected/records.jsonl",
        "train/0001-a/query_tower/assets/account",
        "train/0001-a/vectors/version.npz",
        "train/0002-b/state/tables/user.arrow",  # half a file, of a stage that was killed
        "embed/0001-a/queries/0.parquet",
        "refresh/0001-a/features/users/0.parquet",
    ):
        put(tmp_path, f"{DAY}/{path}")
    put(tmp_path, "work/shop/partials/dt=2024-03-08/events-0-of-1.arrow")
    trial = "work/shop/tuning/0a1b/shop/dt=2024-03-01/train/0001-a"  # of a search that was killed
    put(tmp_path, f"{trial}/state/tables/user.arrow")
    put(tmp_path, f"{trial}/DONE.json", b"{}")
    put(tmp_path, f"{DAY}/index/0001-a/index.json", b"kept")
    put(tmp_path, f"{DAY}/measure/0001-a/metrics.json", b"kept")
    put(tmp_path, f"{DAY}/claims/000001 run published.json", b"kept")
    for name in ("user", "account"):
        place = tmp_path / DAY / f"train/0001-a/state/tables/{name}.arrow"
        place.parent.mkdir(parents=True, exist_ok=True)
        checkpoint._save_table(state(values), place)
    lists = [
        ExampleList(user=user, past_events=1, history=["i"], items=["i"], taken=[])
        for user in ("u7", "u8")
    ]
    put(tmp_path, f"{DAY}/measure/0001-a/examples.json", day_metrics.dump_examples(lists))
    for user in USERS:
        assert holders(tmp_path / "work", user)

    folders = forgetting.deletable(shop)
    forgetting.delete(shop, folders)
    mended = dict(forgetting.mended(shop, USERS))
    for uri, content in mended.items():
        storage.write_bytes(uri, content)
    for user in USERS:
        assert not holders(tmp_path / "work", user)
    assert sum(folders.values()) == 9 * len("[u7, u8]") + 4 * len("{}")
    files = (file for file in (tmp_path / DAY).rglob("*.*") if file.is_file())
    kept = {str(file.relative_to(tmp_path / DAY)) for file in files}
    done = {f"{stage}/0001-a/DONE.json" for stage in ("index", "measure", "train")}
    made = {f"measure/0001-a/{name}.json" for name in ("examples", "metrics")}
    tables = {f"train/0001-a/state/tables/{name}.arrow" for name in ("account", "user")}
    others = {"claims/000001 run published.json", "index/0001-a/index.json"}
    assert kept == done | made | tables | others
    # Rows follow keys
    found = checkpoint._load_table(
        tmp_path / DAY / "train/0001-a/state/tables/account.arrow", shared=1, hashed=False
    )
    assert found.keys.to_pylist() == ["", "=u1", "oov:7"]
    assert found.values.tolist() == values[[0, 1, 4]].tolist() == found.slots.tolist()
    (one,) = day_metrics.parse_examples(
        (tmp_path / DAY / "measure/0001-a/examples.json").read_bytes()
    )
    assert one.user == "u8"
    # There is nothing left to do
    assert not forgetting.deletable(shop) and not dict(forgetting.mended(shop, USERS))


def test_a_stage_at_work_is_waited_for_and_a_killed_or_failed_one_is_not(shop, tmp_path):
    day = date(2024, 3, 9)
    put(tmp_path, f"{DAY}/features/0001-a/examples/00.parquet")
    assert forgetting.days_under_way(shop) == [day]
    for place in (tmp_path / DAY / "features").rglob("*"):
        os.utime(place, (0, 0))
    assert forgetting.days_under_way(shop) == []
    put(tmp_path, f"{DAY}/train/0001-a/state.json")
    assert forgetting.days_under_way(shop) == [day]
    run_leases.write(shop, day, "run-1", "failed")
    assert forgetting.days_under_way(shop) == []
    run_leases.acquire_day(shop, day, "run-2")
    assert forgetting.days_under_way(shop) == [day]


@pytest.mark.parametrize(
    ("path", "held"),
    [
        ("users/0.parquet", True),
        ("items.parquet", False),
        ("query_tower/assets/account", True),
        ("query_tower/assets/user", True),
        ("query_tower/assets/city", False),
        ("ids.txt", False),
    ],
)
def test_a_version_holds_them_in_rows_and_vocabularies(shop, tmp_path, path, held):
    """An item or a city that is called like a user is none."""
    put(tmp_path, f"registry/shop/versions/2024-03-09-0000/{path}", b"u1\nu7\n")
    if path.endswith("parquet"):
        column = "_user" if held else "_item"
        place = tmp_path / f"registry/shop/versions/2024-03-09-0000/{path}"
        pq.write_table(pa.table({column: ["u1", "u7", None]}), place)
    actual = list(forgetting.held_by_versions(shop, USERS))
    assert actual == [("2024-03-09-0000", {"u7"})] * held
    assert not list(forgetting.held_by_versions(shop, frozenset(["u70"])))


def test_who_is_in_no_training_state_and_no_version_is_called_unknown(shop, tmp_path, capsys):
    put(tmp_path, "registry/shop/versions/2024-03-09-0000/query_tower/assets/user", b"u8\n")

    def told(*users):
        return _forget(shop, frozenset(users), yes=False)

    assert told("u8")["unknown"] == 0
    assert told("u8", "nobody")["unknown"] == 1
    _tell(told("nobody"))
    assert "No training state and no stored version holds the user." in capsys.readouterr().err
    put(tmp_path, f"{DAY}/train/0001-a/DONE.json", b"{}")
    place = tmp_path / DAY / "train/0001-a/state/tables/user.arrow"
    place.parent.mkdir(parents=True)
    checkpoint._save_table(state(np.zeros((5, 2), np.float32)), place)
    assert told("u7")["unknown"] == 0
