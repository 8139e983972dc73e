"""Labels of events: what counts as none, what is set aside, what stops the job. And how much an
event weighs.
"""

import json
from datetime import date

import polars as pl
import pytest

from beam_jobs.features_stage import write_raw
from tests.tiny_pipeline import tiny_pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.attempts import StageContext

DAY = date(2017, 10, 16)
NOON = 1_508_155_200
TYPES = {"u": pl.Int64, "i": pl.String, "t": pl.Int64, "e": pl.String, "stars": pl.Float64}


@pytest.fixture
def run(tmp_path):
    """Runs the job on a day of some rows, written by the function given; the examples, by user."""

    def run(write, name, **columns):
        folder = tmp_path / f"events/dt={DAY}"
        folder.mkdir(parents=True)
        write(folder / name)
        named = {"user": "u", "item": "i", "time": "t", "event": "e", "label": "stars"}
        source = {"events": f"{tmp_path}/events/dt={{date}}/", "max_rejected": 0.5}
        p = tiny_pipeline(source=source, columns=named | columns)
        out = str(tmp_path / "out")
        context = StageContext(pipeline=p, day=DAY, mode="incremental", out=out)
        write_raw(context, lambda rows: None)
        (file,) = (tmp_path / "out/examples").rglob("*.parquet")
        examples = pl.read_parquet(file, hive_partitioning=False).to_dicts()
        return {row["_user"]: row for row in examples}

    return run


def rows(values, kind="buy"):
    event = {"i": "a", "e": kind}
    return [event | {"u": n, "t": NOON + n, "stars": value} for n, value in enumerate(values)]


def reasons(tmp_path):
    lines = (tmp_path / "out/rejected/records.jsonl").read_text().splitlines()
    return [(record["row"], record["reason"]) for record in map(json.loads, lines)]


def test_a_label_may_be_missing_but_not_be_nonsense(run, tmp_path):
    given = rows([4, "good", None, 2.5, -1, "", [3]])
    del given[0]["e"]
    lines = [json.dumps(row) for row in given]
    lines.append(lines[1].replace(', "stars": "good"', "").replace('"u": 1', '"u": 7'))
    records = run(lambda path: path.write_text("\n".join(lines)), "a.jsonl")
    labels = {user: row["_label"] for user, row in records.items()}
    assert labels == {"0": 4, "2": None, "3": 2.5, "4": -1, "5": None, "7": None}
    bad = reasons(tmp_path)
    assert bad[0] == (2, "columns.label is not a number") and [row for row, _ in bad] == [2, 7]


def test_no_number_is_no_label(run):
    given = pl.DataFrame(rows([float("nan"), float("inf"), 3.0, None]), TYPES)
    records = run(given.write_parquet, "a.parquet")
    assert [records[user]["_label"] for user in "0123"] == [None, None, 3, None]


def test_rewards_are_cut_before_they_are_weighed(run):
    """Cut to 4: 2 x 2.5, 4 x 2.5, and 4 of a type without a factor; 0 keeps the example."""
    kinds = [("buy", 2.0), ("buy", 9.0), ("gift", 9.0), ("view", 9.0), (None, 3.0)]
    given = [dict(rows([stars], kind)[0], u=n) for n, (kind, stars) in enumerate(kinds)]
    weights = {"buy": 2.5, "view": 0}
    columns = {"reward": "stars", "reward_clip": [0, 4], "weights": weights, "label": None}
    records = run(pl.DataFrame(given, TYPES).write_parquet, "a.parquet", **columns)
    assert [records[user]["_reward"] for user in "01234"] == [5, 10, 4, 0, 3]
    assert feature_schema.LABEL not in records["0"]


def test_without_a_reward_an_event_weighs_its_factor(run):
    given = [dict(rows([None], kind)[0], u=n) for n, kind in enumerate(("buy", "view"))]
    records = run(pl.DataFrame(given, TYPES).write_parquet, "a.parquet", weights={"buy": 3})
    assert [records[user]["_reward"] for user in "01"] == [3, 1]
