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


def put(folder, name, content=b"[u7, u8]") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put_state(path, values) -> None:
    """A table of a training state."""
    keys = pa.array(["", "=u1", "=u7", "=forget-me", "oov:7"])
    data = {"left": pa.nulls(5, pa.date32()), "shared": 1, "hashed": False}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = checkpoint.TableState(keys=keys, values=values, slots=values, **data)
    checkpoint._save_table(table, path)


WITH_USERS = (
    f"{DAY}/features/0001-a/examples/00.parquet",
    f"{DAY}/features/0002-b/rejected/records.jsonl",
    f"{DAY}/train/0001-a/query_tower/assets/account",
    f"{DAY}/train/0001-a/vectors/version.npz",
    f"{DAY}/train/0002-b/state/tables/user.arrow",  # half a file, of a stage that was killed
    f"{DAY}/embed/0001-a/queries/0.parquet",
    f"{DAY}/refresh/0001-a/features/users/0.parquet",
    "work/shop/partials/dt=2024-03-08/events-0-of-1.arrow",
    # Of a search that was killed
    "work/shop/tuning/0a1b/shop/dt=2024-03-01/train/0001-a/state/tables/user.arrow",
)
OTHERS = {
    "index/0001-a/index.json",
    "measure/0001-a/metrics.json",
    "claims/000001 run published.json",
}


def test_no_working_file_holds_them_and_all_else_stays(shop, tmp_path):
    values = np.arange(10, dtype=np.float32).reshape(5, 2)
    for stage in ("features", "train", "measure", "embed", "refresh", "index"):
        put(tmp_path, f"{DAY}/{stage}/0001-a/DONE.json", b"{}")
    put(tmp_path, "work/shop/tuning/0a1b/shop/dt=2024-03-01/train/0001-a/DONE.json", b"{}")
    for path in WITH_USERS:
        put(tmp_path, path)
    for path in OTHERS:
        put(tmp_path, f"{DAY}/{path}", b"kept")
    tables = {f"train/0001-a/state/tables/{name}.arrow" for name in ("account", "user")}
    for table in tables:
        put_state(tmp_path / DAY / table, values)
    examples = "measure/0001-a/examples.json"
    lists = {"past_events": 1, "history": ["i"], "items": ["i"], "taken": []}
    lists = [ExampleList(user=user, **lists) for user in ("u7", "u8")]
    put(tmp_path, f"{DAY}/{examples}", day_metrics.dump_examples(lists))
    assert all(holders(tmp_path / "work", user) for user in USERS)

    folders = forgetting.deletable(shop)
    forgetting.delete(shop, folders)
    for uri, content in dict(forgetting.mended(shop, USERS)).items():
        storage.write_bytes(uri, content)
    assert not any(holders(tmp_path / "work", user) for user in USERS)
    assert sum(folders.values()) == 9 * len("[u7, u8]") + 4 * len("{}")
    files = (file for file in (tmp_path / DAY).rglob("*.*") if file.is_file())
    kept = {str(file.relative_to(tmp_path / DAY)) for file in files}
    done = {f"{stage}/0001-a/DONE.json" for stage in ("index", "measure", "train")}
    assert kept == done | {examples} | tables | OTHERS
    # Rows follow keys
    path = tmp_path / DAY / "train/0001-a/state/tables/account.arrow"
    table = checkpoint._load_table(path, shared=1, hashed=False)
    assert table.keys.to_pylist() == ["", "=u1", "oov:7"]
    assert table.values.tolist() == values[[0, 1, 4]].tolist() == table.slots.tolist()
    (example,) = day_metrics.parse_examples((tmp_path / DAY / examples).read_bytes())
    assert example.user == "u8"
    # There is nothing left to do
    assert not forgetting.deletable(shop) and not dict(forgetting.mended(shop, USERS))


def test_a_stage_at_work_is_waited_for_and_a_killed_or_failed_one_is_not(shop, tmp_path):
    day = date(2024, 3, 9)
    put(tmp_path, f"{DAY}/features/0001-a/examples/00.parquet")
    assert forgetting.days_under_way(shop) == [day]
    for path in (tmp_path / DAY / "features").rglob("*"):
        os.utime(path, (0, 0))
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
    file = tmp_path / f"registry/shop/versions/2024-03-09-0000/{path}"
    put(tmp_path, file, b"u1\nu7\n")
    if path.endswith("parquet"):
        column = "_user" if held else "_item"
        pq.write_table(pa.table({column: ["u1", "u7", None]}), file)
    actual = list(forgetting.held_by_versions(shop, USERS))
    assert actual == [("2024-03-09-0000", {"u7"})] * held
    assert not list(forgetting.held_by_versions(shop, frozenset(["u70"])))


def test_who_is_in_no_training_state_and_no_version_is_called_unknown(shop, tmp_path, capsys):
    put(tmp_path, "registry/shop/versions/2024-03-09-0000/query_tower/assets/user", b"u8\n")

    def forget(*users):
        return _forget(shop, frozenset(users), yes=False)

    assert (forget("u8")["unknown"], forget("u8", "nobody")["unknown"]) == (0, 1)
    _tell(forget("nobody"))
    assert "No training state and no stored version holds the user." in capsys.readouterr().err
    put(tmp_path, f"{DAY}/train/0001-a/DONE.json", b"{}")
    values = np.zeros((5, 2), np.float32)
    put_state(tmp_path / DAY / "train/0001-a/state/tables/user.arrow", values)
    assert forget("u7")["unknown"] == 0
