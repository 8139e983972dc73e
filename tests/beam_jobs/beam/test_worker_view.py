import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.beam import engine, worker_view
from twinspire_core.errors import UsageError


def write(folder, *rows):
    """A file for each number of rows."""
    folder.mkdir(parents=True)
    for number, n in enumerate(rows):
        pq.write_table(pa.table({"x": list(range(n))}), folder / f"{number}.parquet")


def test_all_that_was_written_is_here(tmp_path):
    write(tmp_path / "users", 3, 4)
    worker_view.check_written(str(tmp_path), {"users": 7, "queries": 0})


def test_a_file_that_went_to_another_host_is_missed(tmp_path):
    write(tmp_path / "users", 3)
    with pytest.raises(UsageError) as error:
        worker_view.check_written(str(tmp_path), {"users": 1007, "examples/dt=2024-03-10": 5})
    assert str(error.value).startswith("Every worker must see the same work_root; found in")
    assert "users: 1,007 rows written, 3 here; examples/dt=2024-03-10: 5 rows" in str(error.value)


@pytest.mark.parametrize("written", [[], [("a", 1), ("b", 2), ("a", 10)]], ids=["nothing", "some"])
def test_rows_are_added_up_in_the_job(tmp_path, written):
    def build(job):
        pairs = job | beam.Create(written).with_output_types(tuple[str, int])
        worker_view.write_rows(pairs, str(tmp_path))

    engine.run_job([], build, str(tmp_path))
    rows = {"a": 11, "b": 2} if written else {}
    for folder, n in rows.items():
        write(tmp_path / folder, n)
    assert worker_view.take(str(tmp_path)) == rows
    assert {file.name for file in tmp_path.iterdir()} == {*rows}
