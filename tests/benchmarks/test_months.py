"""The case `months`: its features are the feature stage's, its lines go on where they were left, and
its figures follow from what was found.
"""

import json
import tomllib
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest

from beam_jobs import features_stage
from benchmarks.months import chains, figures
from benchmarks.months.chains import Found, Months
from benchmarks.months.day_features import DayFeatures
from tests.shop import lay_out
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.stage_context import StageContext

FIRST, LAST = date(2024, 3, 5), date(2024, 3, 7)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The made-up shop by ids and history, five days of training anew and two more."""
    folder = tmp_path_factory.mktemp("months")
    tables = tomllib.loads(lay_out(folder).read_text())
    tables["features"] = {name: tables["features"][name] for name in ("user", "history", "item")}
    tables["source"] = {
        table: str(folder / tables["source"][table]) for table in ("events", "items")
    }
    tables["pipeline"]["work_root"] = str(folder / "work")
    tables["registry"] = {"root": str(folder / "registry")}
    tables["sources"] = {"use": ["two_tower", "history"]}
    tables["window"]["train_days"] = 3
    tables["train"] |= {"epochs": 1, "deterministic": False}
    p = Pipeline.model_validate(tables)
    features = DayFeatures(p=p, first=FIRST, last=LAST, folder=folder / "features")
    features.make_raw()
    return features


def _read(folder):
    """Rows by day, sorted, and vocabularies by name."""
    rows = {}
    for day in sorted((folder / "transformed").iterdir()):
        table = ds.dataset(day).to_table()
        rows[day.name] = sorted(map(repr, table.to_pylist()))
    assets = folder / "transform" / "transform_fn" / "assets"
    return rows, {file.name: file.read_bytes() for file in sorted(assets.iterdir())}


@pytest.mark.system
@pytest.mark.slow
def test_a_days_features_are_those_of_the_feature_stage(shop, tmp_path):
    out = tmp_path / "stage"
    features_stage.run(StageContext(pipeline=shop.p, day=LAST, mode="full", out=str(out)))
    expected_rows, expected_vocabularies = _read(out)
    rows, vocabularies = _read(shop.of_window(LAST, tmp_path / "window"))
    assert vocabularies == expected_vocabularies and set(vocabularies) == {"user", "item"}
    assert rows == expected_rows and len(rows) == 3
    of_day, _ = _read(shop.of_day(LAST))
    assert of_day == {f"dt={LAST}": rows[f"dt={LAST}"]}


@pytest.mark.slow
def test_queries_are_of_all_users_of_each_of_the_days_behind(shop):
    evaluation_set, corpus = shop.measured(LAST)
    asked = evaluation_set.queries.select(["_day", "_user"]).to_pylist()
    bought = set()
    for n in range(1, 8):
        day = LAST + timedelta(days=n)
        events = ds.dataset(shop.p.source.events.format(date=day)).to_table().to_pylist()
        bought |= {(day, row["user_id"]) for row in events if row["type"] == "buy"}
    assert {(row["_day"], row["_user"]) for row in asked} == bought
    assert len(asked) == len(bought) and corpus.num_rows == 120


@pytest.mark.slow
def test_a_line_goes_on_where_it_was_left(shop, tmp_path, monkeypatch):
    trained = []
    places = set()

    def train(context, features, parent):
        settings = context.pipeline.train
        days = sorted(path.name for path in (features / "transformed").iterdir())
        trained.append((context.mode, str(context.day), settings.slot_decay, settings.seed, days))
        trained.append(parent and parent.read_text())
        places.add(features)
        return context.day

    def save(day, _, out):
        out.mkdir(parents=True)
        (out / "state").write_text(f"after {day}")

    def measure(months, day, context, out, way):
        save(day, day, out)
        _found([0.5], "a").save(months.found(way, day))

    monkeypatch.setattr(chains, "train_towers", train)
    monkeypatch.setattr(chains, "_save_state", save)
    monkeypatch.setattr(Months, "_measure", measure)

    def months():
        return Months(features=shop, measured=[FIRST, LAST], folder=tmp_path, seed=3)

    between = FIRST + timedelta(days=1)
    assert months().days_left(0.5) == [between, LAST]
    months().go_on(0.5, between)
    assert months().days_left(0.5) == [LAST] and months().days_left(1) == [between, LAST]
    months().go_on(0.5, LAST)
    assert months().days_left(0.5) == []
    months().train_anew(FIRST)
    months().train_anew(LAST)
    months().train_anew(LAST)

    def window(day):
        return [f"dt={day - timedelta(days=n)}" for n in (2, 1, 0)]

    assert trained == [
        *(("full", str(FIRST), 0.9, 3, window(FIRST)), None),
        *(("incremental", str(between), 0.5, 3, [f"dt={between}"]), f"after {FIRST}"),
        *(("incremental", str(LAST), 0.5, 3, [f"dt={LAST}"]), f"after {between}"),
        *(("full", str(LAST), 0.9, 3, window(LAST)), None),
    ]
    # TensorFlow would take the vocabulary of another day that lay in the same place.
    assert len(places) == 4
    for way, days in (("anew", [FIRST, LAST]), ("slot_decay 0.5", [LAST])):
        found = [day for day in (FIRST, between, LAST) if months().found(way, day).exists()]
        assert found == days


DAY = date(2024, 3, 15)


def _found(recall, users="aabbc"):
    return Found(recall=np.array(recall, float), user=np.array(list(users)))


def test_ratios_are_of_means_over_queries_and_seeds_and_newcomers_do_not_count():
    nan = float("nan")
    anew = [_found([0.2, 0.4, 0.1, 0.5, nan]), _found([0.4, 0.2, 0.3, 0.3, nan])]
    line = [_found([0.5, 0.5, 0.1, 0.5, nan])]
    found = {"anew": {FIRST: anew, DAY: anew}, "line": {DAY: line}}
    made = {(row["way"], row["days"]): row for row in figures.rows(found, FIRST)}
    of_day = made["line", 10]
    # Of one seed each, as only that many are there of the line.
    assert (of_day["recall"], of_day["anew"], of_day["seeds"]) == (0.4, 0.3, 1)
    assert of_day["ratio"] == 1.3333
    # A resample is users a, b and c: a alone has .5 against .3, b alone .3 against .3.
    assert of_day["low"] == 1 and of_day["high"] == 1.6667
    assert made["anew", 0]["recall"] == 0.3 and made["anew", 0]["seeds"] == 2
    assert ("line", 0) not in made and made["line", figures.ALL]["ratio"] == 1.3333


def test_a_user_of_several_days_is_drawn_with_all_of_them():
    """Each user is alike on both days: with both drawn together no resample mixes them."""
    anew = {DAY: [_found([0.2, 0.4], "ab")], LAST: [_found([0.2, 0.4], "ab")]}
    line = {DAY: [_found([0.4, 0.4], "ab")], LAST: [_found([0.2, 0.8], "ab")]}
    made = figures.rows({"anew": anew, "line": line}, FIRST)
    of_all = next(row for row in made if row["days"] == figures.ALL and row["way"] == "line")
    # Both days together: a .6 of .4, b 1.2 of .8.
    assert (of_all["ratio"], of_all["low"], of_all["high"]) == (1.5, 1.5, 1.5)


def test_a_day_is_behind_if_its_whole_interval_lies_below_one():
    def row(days, high):
        return {"way": "line", "days": days, "ratio": 0.9, "low": 0.8, "high": high}

    made = [row(10, 1.01), row(20, 0.99), row(figures.ALL, 0.9)]
    assert figures.verdict(made, "line").endswith("behind by more than the interval after 20 days")
    assert "on none of 1 days" in figures.verdict(made[:1], "line")
    assert "not yet" in figures.verdict(made, "another")


def test_the_table_has_a_line_for_each_50th_day_and_one_for_all():
    later = {FIRST + timedelta(days=days): [_found([0.3], "a")] for days in (10, 50)}
    found = {"anew": {FIRST: [_found([0.3], "a")]}, "line": later}
    made = figures.rows(found, FIRST)
    lines = figures.table(made, ["line"]).splitlines()
    assert lines[2:] == [
        "| 0 | 0.3000 |  |  |",
        "| 50 |  | 0.3000 |  |",
        "| all |  |  |  |",
    ]


def test_the_pages_table_is_of_the_committed_figures():
    root = Path(__file__).resolve().parents[2]
    made = json.loads((root / "benchmarks" / "months.json").read_text())["rows"]
    ways = list(dict.fromkeys(row["way"] for row in made if row["way"] != figures.ANEW))
    page = (root / "docs" / "measurements.md").read_text()
    between = page.split(figures.BEGIN)[1].split(figures.END)[0]
    assert between.strip() == figures.table(made, ways)
