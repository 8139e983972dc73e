"""The transform graph of a day: what it has to know is gathered, it is made, and training rows are put through it.

    rows of the vocabulary window -> one summary row    analysis.WriteSummary, in the job that makes the raw features
    summary row -> transform/                           make_graph, in this process
    examples/dt=D/ -> transformed/dt=D/                 ApplyGraph, a job of its own

TFT analyses the summary row, not the rows of the window, so that its analysis takes seconds whatever the window holds,
and needs local files only: TensorFlow cannot write where `twinspire.storage` can.
"""

import io
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from apache_beam.pvalue import PCollection
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.utils.shared import Shared
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader
from tfx_bsl.tfxio.tensor_adapter import TensorAdapter

from beam_jobs import schema
from beam_jobs.transform.analysis import SUMMARY, read_summary, summary_fields, write_summary
from beam_jobs.transform.preprocessing import make_preprocessing_fn
from beam_jobs.transform.tensors import adapter_config, to_tft
from twinspire import storage
from twinspire.pipeline import Pipeline

_GRAPH = "transform_fn"
_PASSED = ("_time", "_user", "_item", "_reward", schema.LABEL)
_IDS = ("id", "category", "time")


def make_graph(p: Pipeline, out: str) -> None:
    """Makes `transform/` of the summary row, which it removes.

    Args:
      p: the pipeline.
      out: URI of the stage's output.
    """
    summary = storage.join(out, SUMMARY)
    row = read_summary(summary)
    with tempfile.TemporaryDirectory() as local:
        fit(p, row, Path(local))
        storage.upload_tree(Path(local), storage.join(out, schema.TRANSFORM))
    storage.delete_file(summary)


def fit(p: Pipeline, row: pa.RecordBatch, folder: Path) -> None:
    """Makes the graph and writes it in TFT's layout.

    Args:
      p: the pipeline.
      row: the summary row.
      folder: an empty local folder.
    """
    config = adapter_config(p, summary_fields(p))
    with _quiet(), tempfile.TemporaryDirectory() as temp, beam.Pipeline(runner=FnApiRunner()) as pipeline:
        # Through a file: Beam would press the elements of Create into the job's description, and that takes a while.
        file = f"{temp}/{SUMMARY}"
        write_summary(to_tft(row, config), file)
        data = pipeline | beam.Create([file]) | "Read" >> beam.Map(read_summary).with_output_types(pa.RecordBatch)
        with tft_beam.Context(temp_dir=temp):
            graph = (data, config) | "Analyse" >> tft_beam.AnalyzeDataset(make_preprocessing_fn(p))
            _ = graph | "Write graph" >> tft_beam.WriteTransformFn(str(folder))


class _quiet:
    """TFT and TensorFlow tell at length about what is of no use to the reader of a run's output."""

    def __enter__(self) -> None:
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._level)


@dataclass
class ApplyGraph(beam.PTransform):
    """Names of files of examples, below the stage's output, -> (name, rows) of the files that were written.

    The rows of held-out users are left out; the others keep their order. The same rows give the same bytes.
    """

    p: Pipeline
    out: str

    def expand(self, names: PCollection) -> PCollection:
        """One file at a time."""
        write = beam.ParDo(_Transform(self.p, self.out, Shared()))
        return names | beam.Reshuffle() | "Transform" >> write.with_output_types(tuple[str, int])


class _Transform(beam.DoFn):
    def __init__(self, p: Pipeline, out: str, shared: Shared) -> None:
        self._p, self._out, self._shared = p, out, shared

    def process(self, name: str) -> Iterator[tuple[str, int]]:
        graph = self._shared.acquire(lambda: Graph.download(self._p, storage.join(self._out, schema.TRANSFORM)))
        file = pq.ParquetFile(io.BytesIO(storage.read_bytes(storage.join(self._out, name))))
        sink, rows = io.BytesIO(), 0
        with pq.ParquetWriter(sink, transformed_schema(self._p), compression="zstd") as writer:
            for batch in file.iter_batches(self._p.beam.batch_rows):
                trained_on = batch.filter(pc.invert(batch["_holdout"]))
                if trained_on.num_rows:
                    writer.write_batch(graph(trained_on))
                    rows += trained_on.num_rows
        written = name.replace(schema.EXAMPLES, schema.TRANSFORMED, 1)
        if rows:
            storage.write_bytes(storage.join(self._out, written), sink.getvalue())
            yield written, rows


class Graph:
    """The transform graph, applied to Arrow batches."""

    def __init__(self, p: Pipeline, folder: Path) -> None:
        """Reads the graph from a local folder in TFT's layout."""
        self._schema = transformed_schema(p)
        self._config = adapter_config(p)
        self._adapter = TensorAdapter(self._config)
        self._loader = SavedModelLoader(str(folder / _GRAPH))
        columns = set(self._config.arrow_schema.names)
        self._loader.finalize(columns, columns)

    @classmethod
    def download(cls, p: Pipeline, uri: str) -> "Graph":
        """Reads the graph from anywhere."""
        with tempfile.TemporaryDirectory() as local:
            return cls(p, storage.localize(uri, Path(local) / schema.TRANSFORM))

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Transforms examples: `example_schema` -> `transformed_schema`."""
        found = self._loader.apply_transform_model(self._adapter.ToBatchTensors(to_tft(batch, self._config)))
        columns = [
            batch[field.name] if field.name in _PASSED else _to_arrow(found[field.name], field.type)
            for field in self._schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def transformed_schema(p: Pipeline) -> pa.Schema:
    """`transformed/dt=D/`: `_time`, `_user`, `_item`, `_reward`, and the towers' inputs as preprocessing.py says.

    `_label` comes after `_reward` where `columns.label` is declared.
    """
    examples = schema.example_schema(p)
    fields = [examples.field(name) for name in _PASSED if name in examples.names]
    for name, feature in p.features.items():
        listed = feature.kind in ("categories", "text", "history")
        ids = pa.list_(pa.int64()) if listed else pa.int64() if feature.kind in _IDS else None
        fields += [pa.field(c.name, ids or c.type) for c in schema.feature_columns(name, feature)]
    return pa.schema(fields)


def _to_arrow(x: Any, kind: pa.DataType) -> pa.Array:
    """A transformed column: [B] tensors are scalars, [B, size] and sparse ones lists."""
    if isinstance(x, tf.SparseTensor):
        lengths = np.bincount(x.indices[:, 0].numpy(), minlength=int(x.dense_shape[0]))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, pa.array(x.values.numpy(), kind.value_type))
    if x.shape.rank == 2:
        offsets = np.arange(len(x) + 1, dtype=np.int32) * x.shape[1]
        return pa.ListArray.from_arrays(offsets, pa.array(x.numpy().ravel(), kind.value_type))
    return pa.array(x.numpy(), kind)
