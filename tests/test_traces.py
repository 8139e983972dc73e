import gzip
import io

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from tests.traces import holders


def packed():
    table = pl.DataFrame({"who": ["some", "wanted"], "n": [1, 2]})
    text = io.BytesIO()
    np.savez_compressed(text, names=np.array([b"wanted"]))
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    arrow = table.to_arrow()
    with pa.ipc.new_stream(sink, arrow.schema, options=options) as stream:
        stream.write_table(arrow)
    parquet, feather = io.BytesIO(), io.BytesIO()
    table.write_parquet(parquet, compression="zstd")
    table.write_ipc(feather, compression="zstd")
    return {
        "parquet": parquet.getvalue(),
        "arrow": feather.getvalue(),
        "stream": sink.getvalue().to_pybytes(),
        "gz": gzip.compress(b"x" * 999 + b"wanted"),
        "npz": text.getvalue(),
        "txt": b"\0\0wanted\0",
    }


# Named by their kind: bytes as names would hold the second that gzip notes, another in each process.
@pytest.mark.parametrize(("name", "content"), packed().items(), ids=packed())
def test_bytes_are_detected_in_any_packing(tmp_path, name, content):
    (tmp_path / "deep").mkdir()
    (tmp_path / f"deep/{name}").write_bytes(content)
    assert holders(tmp_path, "wanted") == [f"deep/{name}"]
    assert not holders(tmp_path, "unwanted")


def test_names_count(tmp_path):
    (tmp_path / "dt=1-wanted").mkdir()
    assert holders(tmp_path, "wanted") == ["dt=1-wanted"]
