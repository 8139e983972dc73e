"""Lays small files out, and reads back what lies where."""

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.partition import partition


def lay_out(tmp_path: Path, source: object, **keys) -> dict[str, list[dict]]:
    """Rows by folder name."""
    options = {k: keys.pop(k) for k in ("rejected", "max_rejected", "spill_bytes") if k in keys}
    partition([str(source)], f"{tmp_path}/out/dt={{date}}/", Layout(**keys), **options)
    return read_back(tmp_path / "out")


def read_back(out: Path) -> dict[str, list[dict]]:
    files = sorted(out.rglob("*.parquet"))
    return {file.parent.name: pq.ParquetFile(file).read().to_pylist() for file in files}


def write(path: Path, *rows: dict) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path
