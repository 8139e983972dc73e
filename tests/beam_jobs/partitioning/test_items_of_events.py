"""A table of items that is made of events, against one item after the other; and `try` with such a log."""

import json
import random
from datetime import date, datetime, timedelta

import pytest

from beam_jobs.partitioning.calendar_days import Layout
from tests import warm
from tests.beam_jobs.partitioning.lay import lay_out, write
from twinspire_core.errors import UsageError

FIRST = datetime(2024, 3, 2)
COLUMNS = ("sku", "title", "price", "tags")


def drawn(seed: int) -> list[dict]:
    """Events in any order, whose items are renamed later, and of some items nothing is known at first."""
    draw = random.Random(seed)
    events = []
    for moment in draw.sample(range(4 * 86_400), 600):
        sku, day = draw.choice([f"s{draw.randrange(40)}", None]), moment // 86_400
        title = draw.choice([None, f"{sku} of day {day}", f"{sku} at {moment}"])
        row = {"t": str(FIRST + timedelta(seconds=moment)), "sku": sku, "title": title}
        price, tags = draw.choice([None, 1.5 * day]), draw.choice([None, [], [f"d{day}"]])
        events.append(row | {"price": price, "tags": tags, "user": draw.randrange(9)})
    return events


def by_hand(events: list[dict]) -> list[dict]:
    rows = []
    for sku in {event["sku"] for event in events} - {None}:
        mine = sorted((e for e in events if e["sku"] == sku), key=lambda e: e["t"])
        of_first_day = [e for e in mine if e["t"][:10] == mine[0]["t"][:10]]
        known = {c: [e[c] for e in of_first_day if e[c] is not None] for c in COLUMNS}
        rows.append({c: values[0] if values else None for c, values in known.items()})
    return sorted(rows, key=lambda row: row["sku"])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spill_bytes", [1 << 30, 2_000])
def test_an_item_is_as_its_first_day_knew_it(seed, spill_bytes, tmp_path):
    events = drawn(seed)
    file = write(tmp_path / "log.jsonl", *events)
    keys = {"time": "t", "items_of": COLUMNS, "spill_bytes": spill_bytes}
    for _ in ["first", "again"]:
        folders = lay_out(tmp_path, file, **keys)
        assert list(folders) == ["dt=2024-03-01"]
        (rows,) = folders.values()
        assert sorted(rows, key=lambda row: row["sku"]) == by_hand(events)
    more = write(tmp_path / "more.jsonl", *events[:300])
    (rows,) = lay_out(tmp_path, more, **keys).values()
    assert len(rows) == len(by_hand(events[:300])), "a snapshot replaces the one before"


def test_options_that_do_not_fit_are_refused(tmp_path):
    file = write(tmp_path / "log.jsonl", *drawn(1), {"t": "soon", "sku": "s1"})
    rejected = tmp_path / "rejected.jsonl"
    with pytest.raises(UsageError, match=r"no 'titel'.*'title'"):
        lay_out(tmp_path, file, time="t", items_of=("sku", "titel"), rejected=str(rejected))
    assert not rejected.exists()
    for wrong in ({"time": "t", "items_of": ("sku", "t")}, {"snapshot": date(2024, 3, 1)}):
        with pytest.raises(UsageError, match="--items-of needs --time"):
            Layout(**({"items_of": ("sku",)} | wrong))
    assert not (tmp_path / "out").exists()


def test_try_shows_names_that_only_the_events_have(tmp_path):
    draw = random.Random(7)
    lines = ["Kunde;Artikel;Zeit;Bezeichnung;price;Sparte;laune"]
    for n in range(3_000):
        day, user = divmod(n, 500)
        item = 4 * draw.randrange(20) + user % 4
        moment = datetime(2024, 3, 1 + day, user * 24 // 500, n % 60)
        mood = draw.choice(["gut", "mies"])
        described = f"Roter Wein {item};{item}.50;Sparte {item % 4}"
        lines.append(f"k{user % 150};a{item};{moment};{described};{mood}")
    log = tmp_path / "kauf.csv"
    log.write_text("\n".join(lines))
    home = tmp_path / "home"
    words = ["--out", str(home), "--yes", "--no-serve", "--days", "1", "--json"]
    code, out, err = warm.run("try", str(log), *words)
    assert code == 0, err[-3000:]
    user = json.loads(out.splitlines()[-1])["user"]
    code, out, err = warm.run("recommend", str(home / "kauf.toml"), "--user", user, "--json")
    assert code == 0, err[-3000:]
    listed = json.loads(out.splitlines()[-1])["items"]
    assert listed
    assert all(one["name"] == f"Roter Wein {one['item'][1:]}" for one in listed), listed[:3]
    text = (home / "kauf.toml").read_text()
    assert 'attributes = ["Sparte"]' in text
    assert '\n[features.price]\ntower = "item"' in text
