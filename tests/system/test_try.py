"""`twinspire try`: from files as shops have them to recommendations."""

import csv
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests import warm
from tests.system.days import twinspire

pytestmark = pytest.mark.slow
USERS, ITEMS, DAYS = 30, 60, 6


class Event(NamedTuple):
    user: int
    item: int
    at: datetime
    kind: str


def events() -> Iterator[Event]:
    """Of a shop whose users like every fifth item, oldest first."""
    draw = random.Random(7)
    for day in range(DAYS):
        opening = datetime(2024, 3, 20, 8) + timedelta(days=day)
        times = sorted(draw.randrange(12 * 3600) for _ in range(3 * USERS))
        for seconds in times:
            user = draw.randrange(USERS)
            item = draw.randrange(ITEMS // 5) * 5 + user % 5
            kind = draw.choice(["view", "view", "buy"])
            yield Event(user, item, opening + timedelta(seconds=seconds), kind)


def write(file: Path, names: list[str], rows, *, encoding="utf-8", **options) -> Path:
    with file.open("w", encoding=encoding, newline="") as text:
        out = csv.writer(text, **options)
        out.writerow(names)
        out.writerows(rows)
    return file


def umlauts(folder: Path) -> Path:
    rows = (
        (f"Käufer {one.user}", f"Stück {one.item}", one.at.isoformat(" "), "Größe")
        for one in events()
    )
    names = ["Kunde", "Artikel", "Datum", "Händler"]
    return write(folder / "umlauts.csv", names, rows, encoding="cp1252", delimiter=";")


def german_dates(folder: Path) -> Path:
    rows = ((f"k{e.user}", f"a{e.item}", f"{e.at:%d.%m.%Y %H:%M:%S}", e.kind) for e in events())
    return write(folder / "german.csv", ["customer", "sku", "datum", "action"], rows)


def epochs(folder: Path) -> Path:
    rows = (
        (f"v{e.user}", f"{e.item:05}", int(e.at.replace(tzinfo=UTC).timestamp() * 1000), e.kind)
        for e in events()
    )
    names = ["visitor_id", "product", "event_ts", "event"]
    return write(folder / "epochs.csv", names, rows, quoting=csv.QUOTE_ALL)


def nested(folder: Path) -> Path:
    file = folder / "nested.jsonl"
    with file.open("w") as out:
        for one in events():
            user = {"id": one.user, "country": ["DE", "FR"][one.user % 2]}
            item = {"id": f"i{one.item}"}
            event = {"at": f"{one.at.isoformat()}Z", "user": user, "item": item, "type": one.kind}
            out.write(json.dumps(event) + "\n")
    return file


def bare(folder: Path) -> Path:
    rows = ((f"b{one.user}", 4006381333900 + one.item, one.at.isoformat()) for one in events())
    return write(folder / "bare.csv", ["buyer", "ean", "created"], rows)


@pytest.mark.system
@pytest.mark.parametrize(
    ("make", "user", "item"),
    [
        (umlauts, "Käufer 3", "Stück {}"),
        (german_dates, "k3", "a{}"),
        (epochs, "v3", "{:05}"),
        (nested, "3", "i{}"),
    ],
)
def test_a_csv_file_becomes_lists(tmp_path, make, user, item):
    """No option says anything about the file."""
    file = make(tmp_path)
    made = twinspire("try", str(file), "--out", str(tmp_path / "shop"), "--days", "1", "--no-serve")
    assert [day["outcome"] for day in made["days"]] == ["published"]
    outcome = twinspire("recommend", made["pipeline"], "--user", user, "--json")
    numbers = {item.format(n): n for n in range(ITEMS)}
    recommended = [numbers[row["item"]] for row in outcome["items"]]
    assert len({*recommended}) == 10
    assert sum(n % 5 == 3 for n in recommended) >= 6, recommended


def test_a_second_try_uses_the_edited_file_and_serves_until_ctrl_c(tmp_path):
    """The log has no type of event."""
    file, home = bare(tmp_path), tmp_path / "shop"
    command = ("try", str(file), "--out", str(home), "--time-zone", "Europe/Berlin", "--days", "1")
    _, out, _ = warm.run(*command, "--no-serve")
    assert len(out.splitlines()) == 1, out
    pipeline = home / "bare.toml"
    edited = pipeline.read_text() + "# mine\n"
    pipeline.write_text(edited)
    out, err = tmp_path / "out", tmp_path / "err"
    server = warm.start(*command, "--port", "0", out=str(out), err=str(err))
    try:
        items = asked(out, {"query": {"user": "b3"}, "k": 10})
        os.kill(server.pid, signal.SIGINT)
        assert warm.join(server, 60) == 0
    finally:
        server.kill()
    assert sum((int(item) - 4006381333900) % 5 == 3 for item in items) >= 6, items
    assert pipeline.read_text() == edited
    assert "features already done" in err.read_text()
    assert err.read_text().rstrip().endswith("ended")


def asked(out: Path, body: dict) -> list[str]:
    """The items of the server's answer, which says in its last line where it is."""
    for _ in range(600):
        with suppress(OSError, LookupError, ValueError, httpx.TransportError):
            report = json.loads(out.read_text().splitlines()[-1])
            answer = httpx.post(f"{report['inspector']}v1/recommend", json=body)
            if answer.status_code == 200:
                return answer.json()["items"]
        time.sleep(0.1)
    raise TimeoutError(out.read_text())
