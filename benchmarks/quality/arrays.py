"""A split as plain arrays, for contenders that run in their own environments.

    layout.json             columns, tables and widths of the two towers
    train.npz               training rows: transformed features, `_time`, `_item` (a number), `_share` (of all rows)
    corpus.npz              transformed item features of the catalogue
    queries-CASE.npz        transformed query features
    log.npz                 `user`, `item`, `time`, `day` (of the zone, since 1970) of all events of 280 days;
                            `users`, their number; `place`, the position of each item in the catalogue
    history-CASE.npz        `start` [Q + 1], `item`, `time`, `day`: the history of each query's user at its `moment`;
                            its `user`; its `asker`, a number that also users of the test days have
    asked.npz               `user` (numbers like `asker`), `item`, `time` of the test days, if queries are as of events

Users and items are numbers from 0; -1 stands for those outside the training data or the catalogue.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import tensorflow as tf

from benchmarks.quality import tower_inputs
from benchmarks.quality.prepare import Prepared, override, slug
from model.data import training_rows
from model.towers.architecture import SIDES, Architecture, design
from model.towers.export import Transform, vocabularies
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.search.ragged import positions


def write_features(prepared: Prepared, folder: Path, dimension: int) -> None:
    """Writes the inputs of a two-tower, transformed by the feature stage's graph, unless they exist.

    Args:
      dimension: width of the towers' vectors; the tables' widths depend on it.
    """
    if (folder / "layout.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    tower_inputs.make(prepared)
    p = override(prepared.pipeline, {"train.dimension": dimension})
    architecture = design(p, vocabularies(prepared.features / feature_schema.TRANSFORM, p))
    np.savez(folder / "train.npz", **_train(prepared, architecture))
    np.savez(
        folder / "corpus.npz",
        **_transformed(prepared, "item", tower_inputs.corpus(prepared).to_arrow()),
    )
    for case in prepared.split.cases:
        asked = _transformed(prepared, "query", tower_inputs.queries(prepared, case).to_arrow())
        np.savez(folder / f"queries-{slug(case.name)}.npz", **asked)
    (folder / "layout.json").write_text(json.dumps(described(architecture)))


def described(architecture: Architecture) -> dict:
    """Tables, columns and widths of both towers."""
    return {
        "tables": {name: [spec.rows, spec.dimension] for name, spec in architecture.tables.items()},
        "parts": {
            side: [
                {
                    "column": column.name,
                    "form": column.form,
                    "table": column.table,
                    "width": column.width,
                }
                for column in architecture.columns[side]
            ]
            for side in SIDES
        },
    }


def _train(prepared: Prepared, architecture: Architecture) -> dict[str, np.ndarray]:
    columns = [column for side in SIDES for column in architecture.columns[side]]
    days = sorted((prepared.features / feature_schema.TRANSFORMED).glob("dt=*"))
    read = training_rows.join([training_rows.read(day, columns) for day in days])
    _, item, count = np.unique(read.item, return_inverse=True, return_counts=True)
    share = (count / len(item)).astype(np.float32)
    return {**read.features, "_time": read.time, "_item": item, "_share": share[item]}


def _transformed(prepared: Prepared, side: str, raw: pa.Table) -> dict[str, np.ndarray]:
    transform = Transform(prepared.features / feature_schema.TRANSFORM, prepared.pipeline, side)
    inputs = {
        name: model_bundle.Input(
            spec.dtype.name, spec.shape.rank == 2, spec.shape[1] if spec.shape.rank == 2 else None
        )
        for name, spec in transform.inputs.items()
    }
    graph = tf.function(lambda **columns: transform(columns)).get_concrete_function(
        **transform.inputs
    )
    parts = [
        graph(**{n: tf.constant(x) for n, x in batch.items()})
        for batch in model_bundle.batches(raw, inputs, 4096)
    ]
    return {name: _stacked([part[name].numpy() for part in parts]) for name in parts[0]}


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenates rows; ids become int32, lists are padded to the same width."""
    parts = [part.astype(np.int32) if part.dtype == np.int64 else part for part in parts]
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])


def _numbers(ids: pl.Series, distinct: pl.Series) -> np.ndarray:
    """Position of each id in `distinct`, -1 if it is missing there."""
    table = pl.DataFrame({"id": distinct}).with_row_index("number")
    joined = ids.rename("id").to_frame().join(table, on="id", how="left", maintain_order="left")
    return joined["number"].cast(pl.Int64).fill_null(-1).to_numpy()


def write_log(prepared: Prepared, folder: Path) -> None:
    """Writes the log and the histories of the queries, unless they exist."""
    if (folder / "log.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    events = prepared.log()
    histories = {case.name: prepared.queries(case) for case in prepared.split.cases}
    later = prepared.asked()
    users = events["_user"].unique(maintain_order=True)
    askers = pl.concat([users, later["_user"]]).unique(maintain_order=True)
    heard_of = [queries["_history"].explode().drop_nulls() for queries in histories.values()]
    items = pl.concat([events["_item"], later["_item"], *heard_of]).unique(maintain_order=True)
    for name, queries in histories.items():
        lists = positions(queries["_history"].to_arrow(), items.to_arrow())
        time = queries["_history_times"].explode().drop_nulls()
        np.savez(
            folder / f"history-{slug(name)}.npz",
            start=np.concatenate([[0], np.cumsum(lists.lengths)]),
            item=lists.values,
            time=time.to_numpy(),
            day=_local_days(time, prepared),
            moment=queries["_moment"].to_numpy(),
            user=_numbers(queries["_user"], users),
            asker=_numbers(queries["_user"], askers),
        )
    np.savez(
        folder / "asked.npz",
        user=_numbers(later["_user"], askers),
        item=_numbers(later["_item"], items),
        time=later["_time"].to_numpy(),
    )
    np.savez(
        folder / "log.npz",
        user=_numbers(events["_user"], users),
        item=_numbers(events["_item"], items),
        time=events["_time"].to_numpy(),
        day=_local_days(events["_time"], prepared),
        users=np.int64(len(users)),
        place=_numbers(items, prepared.corpus()["_item"]),
    )


def _local_days(times: pl.Series, prepared: Prepared) -> np.ndarray:
    """Days since 1970 in the pipeline's zone, of microseconds."""
    clock = times.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(str(prepared.pipeline.zone))
    return clock.dt.date().cast(pl.Int64).to_numpy()
