import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinspire_core import storage
from twinspire_core.storage import parquet_files


def _write(uri, **columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    storage.write_bytes(uri, sink.getvalue())


def test_a_folder_is_one_table_in_order_of_its_files(folder):
    _write(f"{folder}/b/00000.parquet", n=[4, 5], word=["d", "e"])
    _write(f"{folder}/00001.parquet", n=[2, 3], word=["b", "c"])
    _write(f"{folder}/00000.parquet", n=[1], word=["a"])
    storage.write_bytes(f"{folder}/report.json", b"{}")
    assert parquet_files.read_folder(folder).to_pydict() == {
        "n": [1, 2, 3, 4, 5],
        "word": [*"abcde"],
    }
    # Columns as they were asked for; more of them than there are is an error, and not a gap.
    assert parquet_files.read_folder(folder, ["word", "n"]).column_names == ["word", "n"]
    with pytest.raises(pa.ArrowInvalid, match="price"):
        parquet_files.read_folder(folder, ["n", "price"])
    files = parquet_files.list_parquet(folder)
    names = ["00000.parquet", "00001.parquet", "b/00000.parquet"]
    assert [uri.removeprefix(f"{folder}/") for uri in files] == names
    assert [parquet_files.count_rows(uri) for uri in files] == [1, 2, 2]


def test_a_folder_without_files_has_no_columns(folder):
    with pytest.raises(FileNotFoundError, match="no Parquet files"):
        parquet_files.read_folder(folder)
    assert parquet_files.list_parquet(folder) == []
