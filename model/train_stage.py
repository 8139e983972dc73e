"""The train stage: trains the towers on the day and writes vectors for `measure`.

It encodes the day's queries and the corpus three times: with the parent's towers, with the towers of the
best accepted version, and with the new ones. `measure` makes lists of these vectors, without TensorFlow.

U queries of a set, Q distinct queries of all sets, C items of the corpus, D dimensions.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from model.evaluation.day_queries import (
    BY_HISTORY,
    HELD_OUT,
    HELD_OUT_CLICKS,
    NEXT_CLICK,
    NEXT_DAY,
    DayQueries,
    local_parts,
    localize,
    not_held_out,
    read_queries,
    shares_after,
)
from model.item_fingerprint import fingerprint
from model.losses.sampling_probability import compare_frequency
from model.towers.auxiliary_head import LabelledClicks, measure_head
from model.training.train import Trained, train_towers, write
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import AuxiliaryFigures, BestMeasures, FrequencyFigures
from twinspire_core.contracts.feature_schema import feature_columns
from twinspire_core.contracts.model_bundle import Input, Tower
from twinspire_core.contracts.trained_day import (
    BEFORE,
    BEST,
    VERSION,
    Encoded,
    TrainedDay,
    write_log_q,
)
from twinspire_core.errors import UsageError
from twinspire_core.search.ragged import Ragged, list_lengths

MAX_ITEMS_BESIDE = 200_000
"""The largest corpus for which earlier versions encode during training, which keeps the embedding tables
of both versions in memory.
"""


Towers = Mapping[str, Tower]
"""Both towers, by side: `query` and `item`."""


class _Inputs(NamedTuple):
    """Local folders that the stage reads.

    Attributes:
      features: attempt of the features stage.
      parent: contains the parent's towers; None without a parent.
      best: contains the towers of the best accepted version; None if that is the parent.
      state: training state to start from; None to train from scratch.
    """

    features: Path
    parent: Path | None
    best: Path | None
    state: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earlier:
    """Facts about the versions that were trained before the day.

    Attributes:
      unread: columns that the parent reads but the day does not have, each with the reason.
      best_unread: the same for the best accepted version.
      clicks: labelled next-click queries in the parent's vectors, for its auxiliary head; None if
        the pipeline has no such head.
    """

    unread: Sequence[str] = ()
    best_unread: Sequence[str] = ()
    clicks: LabelledClicks | None = None


def run(ctx: StageContext) -> dict[str, Any]:
    """Runs the stage. twinspire_core/contracts/model_bundle.py describes the files in `ctx.out`.

    Raises:
      UsageError: the shapes of weights differ from the parent's, the parent's state was deleted, or the
        loss is not finite.
      BadData: the features do not match the pipeline file.
    """
    if ctx.pipeline.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    with tempfile.TemporaryDirectory() as scratch:
        inputs = _fetch_inputs(ctx, Path(scratch))
        out = Path(scratch) / "out" if storage.is_remote(ctx.out) else Path(ctx.out)
        day = read_queries(ctx, inputs.features)
        earlier, trained, towers = _train(ctx, inputs, day, out)
        # Only queries of held-out users: the new towers were trained on all others.
        version = encode(towers, day.corpus, day.of((HELD_OUT, HELD_OUT_CLICKS)))
        version.write(out, VERSION)
        if ctx.pipeline.train.correction != "none":
            write_log_q(out, trained.log_q(fingerprint(day.corpus.column("_item"))))
        _describe(ctx, day, earlier, trained, version).write(out)
        timings = trained.timings()
        timings.write(out)
        if storage.is_remote(ctx.out):
            storage.upload_tree(out, ctx.out)
    result = trained.result
    return {
        "rows": result.rows,
        "steps": result.steps,
        "loss": result.curve[-1][1] if result.curve else None,
        **timings.model_dump(),
    }


def _fetch_inputs(ctx: StageContext, scratch: Path) -> _Inputs:
    """Finds the stage's inputs, and downloads those that are remote."""
    towers = list(model_bundle.TOWERS.values())
    folders = [feature_schema.TRANSFORM, feature_schema.TRANSFORMED]
    state = None
    if ctx.parent and ctx.mode == "incremental":
        if not storage.exists(storage.join(ctx.parent.train, model_bundle.STATE)):
            raise UsageError(
                "A warm start needs the training state of its parent; the state of"
                f" {ctx.parent.version} is not at {ctx.parent.train}. It was probably deleted. Train from"
                " scratch with --mode full."
            )
        attempt = local_parts(ctx.parent.train, [model_bundle.STATE], scratch / "state")
        state = attempt / model_bundle.STATE
    return _Inputs(
        features=localize(ctx, folders, scratch / "features"),
        parent=local_parts(ctx.parent.home, towers, scratch / "parent") if ctx.parent else None,
        best=local_parts(ctx.besides.home, towers, scratch / "best") if ctx.besides else None,
        state=state,
    )


def _train(
    ctx: StageContext, inputs: _Inputs, day: DayQueries, out: Path
) -> tuple[_Earlier, Trained, Towers]:
    """Trains on the day and writes the towers and the state. At the same time, earlier versions encode
    the day's queries: the parent and the best accepted version. A first version has no parent: its
    own towers before the last day take the parent's place.
    """
    # Building the graph of a training step keeps only one core busy; encoding uses the others.
    thread = ThreadPoolExecutor(1)
    encoding: list[Future[_Earlier]] = []

    def beside(encode_earlier: Callable[[], _Earlier]) -> None:
        encoding.append(thread.submit(encode_earlier))
        # Two large embedding tables would not fit in memory, so training waits.
        if day.corpus.num_rows > MAX_ITEMS_BESIDE:
            encoding[0].result()

    def before_last_day(towers: Towers) -> None:
        # Without held-out users: they compare a version with its parent, which this one does not have.
        names = (NEXT_DAY, NEXT_CLICK, BY_HISTORY)
        beside(partial(_encode, ctx, towers, day, names, out))

    try:
        if ctx.parent:
            beside(partial(encode_earlier_versions, ctx, inputs, day, out))
        measure = None if ctx.parent else before_last_day
        trained = train_towers(ctx, inputs.features, inputs.state, measure)
        towers = write(ctx, trained, out)
        # A first version with a window of one day has no earlier towers.
        return encoding[0].result() if encoding else _Earlier(), trained, towers
    finally:
        # A stage that is stopped must not wait for the vectors: the day's lease must be released soon.
        thread.shutdown(wait=False)


def encode_earlier_versions(
    ctx: StageContext, inputs: _Inputs, day: DayQueries, out: Path
) -> _Earlier:
    """Encodes with the parent's towers, then with those of the best accepted version. Each version uses
    its own transform graph and vocabulary on the day's raw features, as it would have when serving.
    """
    assert inputs.parent is not None, "called only with a parent"
    # One after the other, so that only one version's towers are in memory.
    earlier = _encode(ctx, load_both(inputs.parent), day, [*day.queries], out)
    if inputs.best is None:
        return earlier
    towers = load_both(inputs.best)
    encode(towers, day.corpus, day.of((HELD_OUT,))).write(out, BEST)
    return replace(earlier, best_unread=missing_columns(towers, ctx.pipeline))


def _encode(
    ctx: StageContext, towers: Towers, day: DayQueries, names: Sequence[str], out: Path
) -> _Earlier:
    encoded = encode(towers, day.corpus, day.of(names))
    encoded.write(out, BEFORE)
    has_head = ctx.pipeline.train.auxiliary.weight
    return _Earlier(
        unread=missing_columns(towers, ctx.pipeline),
        clicks=labelled_clicks(day, NEXT_CLICK, encoded) if has_head else None,
    )


def _describe(
    ctx: StageContext, day: DayQueries, earlier: _Earlier, trained: Trained, version: Encoded
) -> TrainedDay:
    """The facts about training that `measure` needs."""
    best = None
    if ctx.best:
        best = BestMeasures(
            version=ctx.best.version,
            ahead=ctx.best.ahead,
            gone=ctx.best.gone,
            unread=earlier.best_unread,
        )
    return TrainedDay(
        train=trained.figures(),
        parent_unread=earlier.unread,
        best=best,
        held_out_shares=shares_after(ctx, trained.days),
        gaps=[gap.describe(ctx.pipeline.name) for gap in ctx.gaps],
        auxiliary=_measure_heads(day, earlier, trained, version),
        frequency=_frequency(ctx, day, trained),
    )


def _measure_heads(
    day: DayQueries, earlier: _Earlier, trained: Trained, version: Encoded
) -> AuxiliaryFigures | None:
    """How well the auxiliary heads of the parent and of this version predict labels; None if the model
    has no head.
    """
    head = trained.model.head
    if head is None:
        return None
    progressive = None
    if trained.inherited_head and earlier.clicks:
        progressive = measure_head(trained.inherited_head, earlier.clicks)
    return AuxiliaryFigures(
        labels=trained.result.labels,
        mean=head.seen.mean,
        curve=trained.result.auxiliary,
        progressive=progressive,
        holdout=measure_head(head, labelled_clicks(day, HELD_OUT_CLICKS, version)),
    )


def _frequency(ctx: StageContext, day: DayQueries, trained: Trained) -> FrequencyFigures | None:
    """The estimated frequencies of items, compared with their true shares of the day."""
    if ctx.pipeline.train.correction == "none":
        return None
    shares = compare_frequency(not_held_out(day.events).column("_item"), trained.log_q)
    return FrequencyFigures(**shares) if shares else None


def load(folder: Path) -> Tower:
    """Loads one tower."""
    return Tower(tf.saved_model.load(str(folder)))


def load_both(attempt: Path) -> Towers:
    """Loads both towers of a train attempt from its local folder."""
    return {side: load(attempt / name) for side, name in model_bundle.TOWERS.items()}


def encode(towers: Towers, corpus: pa.Table, queries: Mapping[str, pa.Table]) -> Encoded:
    """Encodes the items and the queries.

    Args:
      corpus: rows of `corpus/start/`.
      queries: rows of raw features, by evaluation set.
    """
    # Without columns that the tower does not read, more queries are equal.
    read = {"_user", *towers["query"].inputs}
    tables = [
        table.select([name for name in table.column_names if name in read])
        for table in queries.values()
    ]
    together = pa.concat_tables(tables, promote_options="default")
    first, place = distinct_rows(together)
    ends = np.cumsum([table.num_rows for table in tables])[:-1]
    # Many queries are equal, such as those with a history of one item. Each is encoded once.
    return Encoded(
        distinct=towers["query"](together.take(first)),
        place=dict(zip(queries, np.split(place, ends), strict=True)),
        items=towers["item"](corpus),
    )


def labelled_clicks(day: DayQueries, name: str, encoded: Encoded) -> LabelledClicks:
    """The next-click queries that have a label and whose item is in the corpus.

    Args:
      name: the evaluation set, whose rows have an item and a label (NaN for none).
      encoded: vectors by the towers whose head will predict the labels.
    """
    queries, items = day.queries[name], day.corpus.column("_item")
    label = queries.column(feature_schema.LABEL).to_numpy()
    position = pc.index_in(queries.column("_item"), value_set=items.combine_chunks())
    item = position.fill_null(-1).to_numpy()
    usable = np.flatnonzero(np.isfinite(label) & (item >= 0))
    return LabelledClicks(
        query=encoded.queries(name)[usable],
        item=encoded.items[item[usable]],
        label=label[usable],
    )


def distinct_rows(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Finds equal rows.

    Args:
      rows: [N]; a null list equals an empty one.

    Returns: the first of each group of equal rows, [Q] int64; and the group of each row, [N] int64.
    """
    codes = np.concatenate([_codes(column.combine_chunks()) for column in rows.columns], axis=1)
    codes = np.ascontiguousarray(codes)
    # np.unique compares a row of codes as a whole if the row is one opaque value. `axis=0` would
    # compare field by field, which is slower.
    row_type = np.dtype((np.void, codes.itemsize * codes.shape[1]))
    _, first, group = np.unique(
        codes.view(row_type).ravel(), return_index=True, return_inverse=True
    )
    return first, group


def _codes(column: pa.Array) -> np.ndarray:
    """A number for each value, [N, 1] int32, or [N, L] for lists. Equal values have equal numbers; -1 is
    missing.
    """
    is_list = pa.types.is_list(column.type)
    values = column.flatten() if is_list else column
    codes = np.asarray(values.dictionary_encode().indices.fill_null(-1))
    if not is_list:
        return codes[:, np.newaxis]
    return Ragged.of_lengths(codes, list_lengths(column)).padded().astype(np.int32)


def missing_columns(towers: Towers, pipeline: Pipeline) -> list[str]:
    """The columns that towers of an earlier day read and that the current pipeline file no longer makes,
    each with the reason.
    """
    declared = {side: declared_inputs(pipeline, side) for side in towers}
    return [
        f"{column} (now {_describe_input(now)}, was {_describe_input(was)})"
        for side, tower in towers.items()
        for column, was in tower.inputs.items()
        if (now := declared[side].get(column)) != was
    ]


def declared_inputs(pipeline: Pipeline, side: str) -> dict[str, Input]:
    """The raw columns of a tower as the pipeline file declares them."""
    inputs = {}
    for name, feature in pipeline.tower(side).items():
        for column in feature_columns(name, feature):
            is_list = pa.types.is_list(column.type)
            value_type = column.type.value_type if is_list else column.type
            # Arrow calls float32 `float`; towers name types as TensorFlow does.
            dtype = "float32" if pa.types.is_float32(value_type) else str(value_type)
            inputs[column.name] = Input(dtype, is_list, feature.vector_size)
    return inputs


def _describe_input(column: Input | None) -> str:
    if column is None:
        return "gone"
    value = "text" if column.dtype == "string" else "number"
    if not column.listed:
        return f"a {value}"
    if column.width:
        return f"a list of {column.width} {value}s"
    return f"a list of {value}s"
