"""`twinspire validate`: what is wrong with a pipeline file, compared with real logs."""

import json
import shutil
import tomllib
from datetime import date
from pathlib import Path

import jsonschema
import polars as pl
import pytest

from beam_jobs.scaffold.draft import draft
from beam_jobs.scaffold.validate import validate
from tests.shop import lay_out
from tests.twinspire.cli.test_prepare import twinspire
from twinspire_core.config.pipeline import load
from twinspire_core.errors import BadData

DAY = date(2024, 3, 5)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("shop"))


def not_ok(file: Path) -> dict[str, str]:
    """What is said of the columns that do not fit the day."""
    return {c.column: c.found for c in validate(load(file), DAY).columns if not c.ok}


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        ('user = "user_id"', 'user = "customer"', "customer"),
        ('reward = "weight"', 'reward = "type"', "type"),
        ('item = "item_id"', 'item = "weight"', "weight"),
        ('item = "item_id"', 'item = "item_id"\nlabel = "type"', "type"),
        ('item = "item_id"', 'item = "item_id"\nlabel = "happiness"', "happiness"),
        ("[features.price]", '[features.price]\ncolumn = "title"', "title"),
        ("[features.city]", "[features.town]", "town"),
        ('.kind]\nkind = "category"', '.kind]\nkind = "categories"', "kind"),
    ],
)
def test_a_missing_or_unfit_column_is_rejected(shop, old, new, column):
    text = shop.read_text()
    assert old in text
    (shop.parent / "changed.toml").write_text(text.replace(old, new))
    unfit = not_ok(shop.parent / "changed.toml")
    assert column in unfit and all(unfit.values())
    assert column != "kind" or "set features.kind.separator" in unfit["kind"]


def test_items_that_no_event_names_are_rejected(shop, tmp_path):
    shutil.copytree(shop.parent / "items", tmp_path / "items")
    for file in (tmp_path / "items").rglob("*.parquet"):
        pl.read_parquet(file).with_columns(pl.format("X-{}", "item_id")).write_parquet(file)
    text = shop.read_text().replace('items = "items', f'items = "{tmp_path}/items')
    assert str(tmp_path) in text
    (shop.parent / "unmatched.toml").write_text(text)
    unfit = not_ok(shop.parent / "unmatched.toml")
    assert unfit.keys() == {"item_id"} and "Set columns.items_key" in unfit["item_id"]


def test_bytes_are_proposed_for_nothing_and_fit_nothing(shop, tmp_path):
    for name in ("events", "items", "users"):
        shutil.copytree(shop.parent / name, tmp_path / name)
    for table, columns in (("items", ("kind", "title")), ("events", ("type",))):
        for file in (tmp_path / table).rglob("*.parquet"):
            bytes_of = pl.col(columns).cast(pl.Binary)
            pl.read_parquet(file).with_columns(bytes_of).write_parquet(file)
    (tmp_path / "shop.toml").write_text(shop.read_text())
    unfit = not_ok(tmp_path / "shop.toml")
    assert unfit.keys() == {"kind", "title", "type"}
    assert all("Binary" in said for said in unfit.values())
    text = draft("shop", tmp_path / "events", tmp_path / "items", home=tmp_path)
    before, marker, _ = text.partition("# [features.kind]\n")
    assert marker and "bytes, which need not be text" in before.splitlines()[-1]
    assert "display = []" in text and 'event = "type"' not in text


def test_days_without_files_are_named(shop, tmp_path):
    with pytest.raises(BadData, match="2024-03-01, 2024-03-02, …"):
        validate(load(shop), date(2025, 1, 1)).columns


def lay_out_csv(tmp_path, items: str) -> Path:
    """Daily CSV files as they come, with text alone."""
    for table in ("events", "items"):
        (tmp_path / table / f"dt={DAY}").mkdir(parents=True)
    rows = [f"u{n % 9},{n},{1_709_632_800_000 + n}" for n in range(200)]
    log = "\n".join(["user_id,item_id,at", *rows])
    (tmp_path / f"events/dt={DAY}/log.csv").write_text(log + "\n")
    (tmp_path / f"items/dt={DAY}/items.csv").write_text(items)
    return tmp_path


def test_numbers_of_a_csv_are_numbers_to_draft_and_validate(tmp_path):
    items = "item_id,grams,price\n" + "".join(f"{n},{n * 7},{n / 2}\n" for n in range(200))
    logs = lay_out_csv(tmp_path, items)
    (tmp_path / "x.toml").write_text(draft("x", logs / "events", logs / "items"))
    p = load(tmp_path / "x.toml")
    assert (p.features["grams"].kind, p.features["price"].kind) == ("number", "number")
    assert p.columns.time_unit == "ms"
    assert not not_ok(tmp_path / "x.toml")


@pytest.mark.parametrize(("commas", "ok"), [(2, True), (3, False)])
def test_text_among_numbers_of_a_csv_is_reported_with_the_fate_of_its_records(tmp_path, commas, ok):
    prices = ["9,99"] * commas + [f"{n}.50" for n in range(200 - commas)]
    items = "item_id;price\n" + "".join(f"{n};{price}\n" for n, price in enumerate(prices))
    logs = lay_out_csv(tmp_path, items.replace(";", "\t"))
    (logs / f"items/dt={DAY}/items.csv").rename(logs / f"items/dt={DAY}/items.tsv")
    text = draft("x", logs / "events", logs / "items")
    assert "numbers written as text, such as 0.50" in text
    number = '\n[features.price]\ntower = "item"\nkind = "number"\n'
    (tmp_path / "x.toml").write_text(text + number)
    checked = validate(load(tmp_path / "x.toml"), DAY).columns
    (price,) = (column for column in checked if column.column == "price")
    said = f"{commas} of 200 records are rejected, such as '9,99': features.price is not a number"
    assert price.ok is ok and said in price.found


def test_the_commands_end_with_the_exit_codes_of_the_manual(shop, tmp_path):
    made = tmp_path / "pipelines" / "made.toml"  # in a folder that is not there yet
    command = ("init", str(shop.parent / "events"), "--name", "shop", "--out", str(made))
    assert twinspire(*command)[0] == 0
    assert twinspire("validate", str(made), "--date", str(DAY))[0] == 0
    schema = json.loads((made.parent / "twinspire.schema.json").read_text())
    text = made.read_text()
    assert text.startswith("#:schema ./twinspire.schema.json\n")
    jsonschema.validate(tomllib.loads(text), schema)
    values = json.loads(twinspire("config", str(made), "--json")[1])
    assert values["columns.user"] == {"value": "user_id", "from": "file"}
    assert values["train.wait"] == {"value": "6h", "from": "default"}
    assert tomllib.loads(twinspire("config", str(made))[1])["train"]["dimension"] == 64
    unfit = ("--name", "My shop", "--time-zone", "Europe/Berln", "--out", str(tmp_path / "x.toml"))
    code, _, said = twinspire(*command[:2], *unfit)
    assert code == 2 and not (tmp_path / "x.toml").exists()
    assert "--name: " in said and "'My shop'" in said and "'Europe/Berlin'?" in said
    code, _, said = twinspire(*command)
    assert code == 2 and "must be a new file" in said
    made.write_text(made.read_text().replace('user = "user_id"', 'user = "nobody"'))
    code, printed, said = twinspire("validate", str(made), "--date", str(DAY), "--json")
    assert code == 3 and "events.nobody" in said
    assert next(f["column"] for f in json.loads(printed) if not f["ok"]) == "nobody"
