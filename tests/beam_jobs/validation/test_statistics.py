import math
import os
import pickle
from collections import Counter

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.validation import statistics
from beam_jobs.validation.statistics import Collect, columns, finish
from tests.beam_jobs.validation.made_up_days import day, make, write_day
from twinspire_core import storage
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.features_report import StatisticsFile

PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
SCHEMA = feature_schema.example_schema(make())


def collected(batches):
    """The columns of batches, two of which travel as one part, in this order."""
    p = make()
    combine = Collect(columns(p, feature_schema.example_schema(p)))
    parts = []
    for number, batch in enumerate(batches):
        if number % 2 == 0:
            parts.append(combine.create_accumulator())
        parts[-1] = combine.add_input(parts[-1], batch)
    # A runner may make parts small before they travel, or not.
    parts[::2] = map(combine.compact, parts[::2])
    schema = feature_schema.example_schema(make())
    return finish(schema, combine.merge_accumulators(pickle.loads(pickle.dumps(parts))))


def batch_of(n, **made):
    """A batch of n rows, each of another user; other columns than those that are said are missing."""
    made = {"_user": [f"u{i}" for i in range(n)], "_item": ["i"] * n, "_time": [0] * n, **made}
    arrays = [pa.array(made.get(field.name, [None] * n), field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_day(make(), day(1000), tmp_path_factory.mktemp("day"))


def test_statistics_are_the_counted_ones(written):
    rows = day(1000)
    file = StatisticsFile.read(written)
    assert file.rows == 1000 and file.training == {}
    assert "_user" in file.examples and "_item" not in file.examples, "the item is a feature"
    frame = pl.DataFrame(rows)
    for name, column in file.examples.items():
        some = frame[name].drop_nulls()
        if some.dtype == pl.List:
            values = some.explode().drop_nulls()
        else:
            values = some
        if column.type != "string":
            values = values.cast(pl.Float32)
        present = len(some.filter(some.list.len() > 0)) if some.dtype == pl.List else len(some)
        assert (column.rows, column.present, column.missing) == (1000, present, 1000 - present)
        assert column.values == len(values) and column.exact
        counted = Counter(map(str, values))
        listed = zip(map(str, listed_values(column)), column.counts, strict=True)
        assert Counter(dict(listed)) == counted
        assert column.distinct == len(counted)
        assert [n for _, n in column.top] == sorted(counted.values(), reverse=True)[:20]
        if column.type == "string":
            assert column.min is None and column.listed[0] == column.top[0][0]
        else:
            assert np.float32(column.min) == values.min() and np.float32(column.max) == values.max()
            ordered = sorted(values)
            places = [max(0, math.ceil(r * len(values) / 10) - 1) for r in range(11)]
            assert [np.float32(q) for q in column.quantiles] == [ordered[i] for i in places]
    types = {"device": "string", "price": "float", "when_hour": "int"}
    assert {name: file.examples[name].type for name in types} == types


def listed_values(column):
    """Numbers as Polars prints float32."""
    if column.type == "string":
        return column.listed
    return pl.Series(column.listed, dtype=pl.Float32)


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["several processes", "prism"])
def test_other_runners_write_the_same_bytes(written, tmp_path, runner, monkeypatch, request):
    options = request.getfixturevalue("prism") if runner == "prism" else PROCESSES
    monkeypatch.setenv("PYTHONPATH", os.getcwd())  # for workers in other processes
    other = write_day(make(), day(1000), tmp_path, options, parts=4)
    first, second = (storage.read_bytes(f"{out}/{StatisticsFile.FILE}") for out in (written, other))
    assert first == second


@settings(max_examples=12, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 9), st.booleans())
def test_any_parts_in_any_order_give_the_same_bytes(random, parts, doubled):
    """Also of columns with far more values than are listed, and of rows that look like one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "LISTED", 16)
        rows = day(120, price=lambda i: i * 0.1 - 3)
        rows += rows[:30] if doubled else []
        whole = collected([pa.RecordBatch.from_pylist(rows, SCHEMA)])
        random.shuffle(rows)
        batches = [pa.RecordBatch.from_pylist(rows[i::parts], SCHEMA) for i in range(parts)]
        assert collected(batches) == whole
        assert not whole["price"].exact and whole["device"].exact


def test_quantiles_of_a_sample_are_near():
    """Of 60,000 normal numbers, a third of which are 0 instead."""
    numbers = np.random.default_rng(0).normal(100, 15, 60_000).astype(np.float32)
    numbers[::3] = 0
    price = collected([batch_of(60_000, price=numbers)])["price"]
    assert not price.exact and sum(price.counts) == statistics.LISTED
    for rank, actual in zip(np.arange(1, 10) / 10, price.quantiles[1:-1], strict=True):
        below, up_to = np.mean(numbers < np.float32(actual)), np.mean(numbers <= np.float32(actual))
        assert below - 0.02 <= rank <= up_to + 0.02
    value, count = price.top[0]
    assert value == 0 and count == pytest.approx(20_000, rel=0.03)
    assert (np.float32(price.min), np.float32(price.max)) == (numbers.min(), numbers.max())


@pytest.mark.parametrize("n", [1, 9_999, 10_001, 200_000])
def test_different_values_are_exact_below_those_listed_and_near_beyond(n):
    result = collected([batch_of(n), batch_of(n)])["_user"]
    assert result.exact == (n < statistics.LISTED)
    assert result.distinct == n if result.exact else result.distinct == pytest.approx(n, rel=0.03)
    assert result.values == 2 * n


def test_rows_that_hold_nothing():
    rows = {"price": [None, None, 3, math.nan], "tags": [[], None, ["a", "b"], []]}
    result = collected([batch_of(4, **rows)])
    assert (result["price"].present, result["price"].listed, result["price"].min) == (2, [3.0], 3.0)
    tags = result["tags"]
    assert (tags.present, tags.values) == (1, 2)
    nothing = result["image"]
    assert (nothing.present, nothing.values, nothing.distinct) == (0, 0, 0)
    assert (nothing.listed, nothing.min, nothing.quantiles) == ([], None, [])


def test_a_day_without_examples_ends_the_job_well(tmp_path):
    """The stage refuses it afterwards, and says which events it has (beam_jobs/features/report.py)."""
    file = StatisticsFile.read(write_day(make(), day(20), tmp_path, of="training"))
    assert (file.rows, file.examples) == (0, {}) and file.training["price"].rows == 20


def test_coded_lists_are_counted_as_strings_are():
    lists = pa.array([["b", "a", "b"], [], ["c"]])
    codes = pa.DictionaryArray.from_arrays([1, 2, 1, 3], ["z", "b", "a", "c"])
    coded = pa.ListArray.from_arrays([0, 3, 3, 4], codes)
    rows = [{"_user": ["x", "y", "z"], "recent": column} for column in (lists, coded)]
    plain, other = (collected([pa.RecordBatch.from_pydict(some)]) for some in rows)
    assert plain == other and plain["recent"].listed == ["b", "a", "c"]
