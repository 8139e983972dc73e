import io
from datetime import date
from types import SimpleNamespace

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.beam import batches
from beam_jobs.point_in_time import items
from tests.serving.conftest import PIPELINE
from twinspire_core.config.pipeline import load
from twinspire_core.errors import UsageError

SCHEMA = pa.schema([("n", pa.int64()), ("recent", pa.list_(pa.string()))])


def frame(rows):
    return pl.DataFrame(
        {"n": range(rows), "recent": [[f"item {n % 7}"] * (n % 3) for n in range(rows)]},
        {"n": pl.Int64, "recent": pl.List(pl.String)},
    )


@pytest.mark.parametrize("rows", [0, 10, 65_536, 150_000])
def test_a_file_is_that_of_all_rows_at_once(rows):
    whole = pa.Table.from_batches([batches.to_batch(frame(rows), SCHEMA)])
    sink = io.BytesIO()
    # The least and the largest value are written down of columns without lists.
    pq.write_table(whole, sink, compression="zstd", row_group_size=65_536, write_statistics=["n"])
    assert batches.parquet(list(batches.to_batches(frame(rows), SCHEMA))) == sink.getvalue()


@pytest.fixture
def small(monkeypatch):
    """Batches that have no room for more than 10 lists, as real ones have none beyond 2 GiB."""
    real = batches.to_batch

    def to_batch(rows, schema=None):
        if len(rows) > 10:
            raise UsageError("A batch has room for 10 rows.")
        return real(rows, schema)

    monkeypatch.setattr(batches, "to_batch", to_batch)


def test_rows_that_are_too_many_for_a_batch_go_into_several(small):
    # Of 100, 64 are halved three times, and 36 twice.
    for rows, number in ((0, 1), (1, 1), (10, 1), (11, 2), (100, 8 + 4)):
        found = list(batches.to_batches(frame(rows), SCHEMA, 64))
        assert max(len(batch) for batch in found) <= 10 and len(found) == number
        assert pl.concat([pl.DataFrame(pl.from_arrow(batch)) for batch in found])[
            "n"
        ].to_list() == list(range(rows))
    assert (
        len(
            pq.read_table(io.BytesIO(batches.parquet(list(batches.to_batches(frame(100), SCHEMA)))))
        )
        == 100
    )


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[123456789, 7], None, []], pa.list_(pa.int64())),
        pa.array([[0.1], None, []], pa.list_(pa.float64())),
        pa.array([[True, False], None, []], pa.list_(pa.bool_())),
        pa.array([[date(2024, 2, 29)], None, []], pa.list_(pa.date32())),
        pa.array([["a", "b"], None, ["c", None]], pa.list_(pa.string(), 2)),
    ],
    ids=lambda values: str(values.type),
)
def test_an_attribute_that_holds_lists_keeps_its_values(values, tmp_path):
    """They are read as Polars reads a snapshot, and written as the corpus is."""
    (tmp_path / "circle.toml").write_text(PIPELINE)
    job = SimpleNamespace(p=load(tmp_path / "circle.toml"))
    pq.write_table(pa.table({"_item": ["i", "j", "k"], "_attribute_tags": values}), tmp_path / "f")
    rows = pl.read_parquet(tmp_path / "f")
    written = batches.parquet(list(batches.to_batches(rows, items.schema_of(job, rows))))
    found = pq.read_table(io.BytesIO(written)).column("_attribute_tags")
    assert found.type.value_type == values.type.value_type
    assert found.to_pylist() == [value or [] for value in values.to_pylist()]
