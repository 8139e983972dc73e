"""The publish stage: brings a version's files together, has the gate judge it, describes it in a manifest
and publishes it. A refresh (index_builder/refresh_stage.py) publishes in the same steps.
"""

import platform
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from index_builder.gate.comparison import DaysItems, JudgedVersion, LineMemory, MeasuredUsers
from index_builder.gate.verdict import judge
from index_builder.registry.registry import Registry
from index_builder.report.facts import gather
from index_builder.report.page import render
from twinspire_core import storage
from twinspire_core.config.source_registry import ENTRIES, own_digests
from twinspire_core.contracts import (
    attempts,
    feature_schema,
    model_bundle,
    ranker_files,
    version_manifest,
)
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.feature_schema import PERSONAL_HALF_LIVES
from twinspire_core.contracts.features_report import FeaturesReport, StatisticsFile
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.ranker_files import RankerFile
from twinspire_core.contracts.version_manifest import FILE as MANIFEST
from twinspire_core.contracts.version_manifest import File, IndexFigures, Manifest
from twinspire_core.display import served_figure
from twinspire_core.errors import BadData
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.native_code import block_tensorflow_extras, suppress_native_stderr
from twinspire_core.search.index import stored_vectors
from twinspire_core.sources.candidate_sources import fits_of
from twinspire_core.sources.user_histories import HALF_LIFE, HALF_LIVES, half_life_column
from twinspire_core.storage import parquet_files
from twinspire_core.version import __version__

# Tables of the pipeline file that do not change what a version is
_PLACES = {"pipeline", "source", "registry", "notify", "beam"}
_LIBRARIES = ("tensorflow", "tensorflow-transform", "apache-beam", "scann", "numpy", "pyarrow")


def run(ctx: StageContext) -> dict[str, Any]:
    """Publishes the day's version. It goes live if the gate accepts it, and `ctx.promote` and the date allow
    it.

    Returns: The summary. `refused` lists the gate's reasons, if any. The caller decides what
      to do about them.
    """
    registry = Registry(ctx.pipeline.registry.root, ctx.pipeline.name)
    # A version trained from scratch has a baseline, but no parent
    inherits_from = ctx.parent if ctx.mode == "incremental" else None
    with tempfile.TemporaryDirectory(prefix="twinspire-publish-") as scratch:
        staged = Path(scratch)
        assemble(ctx, staged)
        measured = _measured(ctx, staged, registry)
        return publish(
            ctx,
            registry,
            staged,
            judge(measured, ctx.pipeline.gate, ctx.pipeline.index),
            day=ctx.day,
            parent=inherits_from.version if inherits_from else None,
            sources={stage: attempts.name(ctx.pipeline, uri) for stage, uri in ctx.inputs.items()},
        )


def _measured(ctx: StageContext, staged: Path, registry: Registry) -> JudgedVersion:
    metrics, metric = DayMetrics.read(staged), ctx.pipeline.gate.metric
    baseline_items, users_before, of_parent, emptied = None, 0, None, dict[str, int]()
    if ctx.parent:
        baseline = registry.manifest(ctx.parent.version)
        baseline_items = baseline.items
        if "features" in baseline.sources:
            emptied = _emptied(ctx, attempts.place(ctx.pipeline, baseline.sources["features"]))
        of_parent = DayMetrics.find(ctx.parent.home)
        users_before = of_parent.users_measured(ctx.parent.day) if of_parent else 0
    features = FeaturesReport.find(ctx.inputs["features"])
    figures = IndexFigures.read(staged)
    memory = LineMemory(day=ctx.day, best=metrics.best, line=metrics.line)
    return JudgedVersion(
        two_tower=metrics.holdout,
        fixed_order=metrics.fixed_order.holdout,
        ranker=metrics.ranker,
        memory=memory.since(registry.state().overruled),
        index_recall=figures.recall,
        items=figures.items,
        baseline_items=baseline_items,
        measurable=MeasuredUsers(
            now=metrics.users_measured(ctx.day),
            before=users_before,
            of=features.users if features else 0,
        ),
        days_items=DaysItems(
            metrics.share_in_corpus,
            of_parent.share_in_corpus if of_parent else None,
            metrics.best_before_training(metric),
            of_parent.best_before_training(metric) if of_parent else None,
        ),
        emptied=emptied,
        unread=metrics.parent_unread,
        skew=(features.skew or ()) if features else (),
    )


def _emptied(ctx: StageContext, before: str) -> dict[str, int]:
    """Features without a value among the day's examples: how many as many examples had on an earlier day.

    Args:
      before: URI of the features stage's output of that day; without statistics, nothing is compared.
    """
    now, then = StatisticsFile.find(ctx.inputs["features"]), StatisticsFile.find(before)
    if not now or not then:
        return {}
    return {
        name: then.examples[name].present * now.rows // max(1, then.rows)
        for name, column in now.examples.items()
        if name in ctx.pipeline.features and name in then.examples and not column.present
    }


def assemble(ctx: StageContext, staged: Path) -> None:
    """Puts the files of a version into one folder. Outputs of the stages are linked, not copied."""
    train, measure = ctx.inputs["train"], ctx.inputs["measure"]
    index = ctx.inputs["index"]
    for name in (model_bundle.QUERY_TOWER, model_bundle.ITEM_TOWER):
        storage.link_tree(storage.join(train, name), staged / name)
    storage.link_tree(storage.join(ctx.inputs["embed"], "items"), staged / version_manifest.VECTORS)
    storage.link_tree(storage.join(index, version_manifest.INDEX), staged / version_manifest.INDEX)
    for source, name in ((measure, DayMetrics.FILE), (index, IndexFigures.FILE)):
        (staged / name).write_bytes(storage.read_bytes(storage.join(source, name)))
    items = _items(ctx, staged / version_manifest.VECTORS)
    pq.write_table(items, staged / version_manifest.ITEMS, compression="zstd")
    _add_candidate_sources(ctx, staged)
    if ctx.pipeline.serving.user_store:
        add_users(ctx, staged)
    if ctx.pipeline.serving.tensorflow:
        _add_serving_model(ctx, staged, items.column("_item").combine_chunks())


def add_users(ctx: StageContext, staged: Path) -> None:
    """The users as the feature job wrote them, with only the decayed counts that sources
    use: a server holds all users in memory.
    """
    users = storage.join(ctx.inputs["features"], feature_schema.USERS)
    used = {half_life_column(name) for name in _half_lives(ctx, staged)}
    most = ctx.pipeline.serving.user_store
    folder = staged / version_manifest.USERS
    if not used and most is True:
        storage.link_tree(users, folder)
        return
    folder.mkdir()
    unused = {*PERSONAL_HALF_LIVES} - used
    # `is`, because 1 == True, and the number of users may be 1
    newest = None if most is True else _seen_last(users, most)
    for uri in parquet_files.list_parquet(users):
        table = parquet_files.read_file(uri)
        table = table.drop_columns([name for name in table.column_names if name in unused])
        if newest is not None:
            table = table.filter(pc.is_in(table["_user"], newest))
        pq.write_table(table, folder / uri.rpartition("/")[2], compression="zstd")


def _seen_last(users: str, most: int) -> pa.Array:
    """Ids of the `most` users with the newest events. Among equal times, the first ids win."""
    table = parquet_files.read_folder(users, ["_user", "_last_time"])
    newest_first = table.sort_by([("_last_time", "descending"), ("_user", "ascending")])
    return newest_first["_user"][:most].combine_chunks()


def _half_lives(ctx: StageContext, staged: Path) -> set[str]:
    """Half-lives of the decayed counts that the version's sources and its ranker use."""
    used = {HALF_LIFE} if ctx.pipeline.sources.several else set()
    # Trees choose among all half-lives: which ones they read may change from day to day.
    if (staged / RankerFile.FILE).exists():
        used.update(HALF_LIVES)
    return used


def _add_serving_model(ctx: StageContext, staged: Path, ids: pa.Array) -> None:
    """The model for TensorFlow Serving: as the embed stage wrote it, or made here if it did not."""
    embedded = storage.join(ctx.inputs["embed"], model_bundle.TENSORFLOW_SERVING)
    if storage.list_files(embedded):
        storage.link_tree(embedded, staged / model_bundle.TENSORFLOW_SERVING)
        return
    with suppress_native_stderr(), block_tensorflow_extras():  # TensorFlow greets at length
        import tensorflow as tf

        tower = tf.saved_model.load(str(staged / model_bundle.QUERY_TOWER))
        vectors = stored_vectors(staged / version_manifest.INDEX)
        model_bundle.write_for_tensorflow_serving(
            staged / model_bundle.TENSORFLOW_SERVING, tower, ids, vectors
        )


def _add_candidate_sources(ctx: StageContext, staged: Path) -> None:
    """The tables of the other candidate sources, and what orders their candidates."""
    for file in (FixedOrder.FILE, RankerFile.FILE, ranker_files.MODEL):
        source = storage.join(ctx.inputs["measure"], file)
        if storage.exists(source):
            (staged / file).write_bytes(storage.read_bytes(source))
    for name in fits_of(ctx.pipeline.sources.use):
        add_source_table(ctx, staged, name)
    # Only for its digest, which a server compares with its own file. Code is never imported from a registry
    for name in own_digests(ctx.pipeline.sources.use):
        (staged / f"{name}.py").write_bytes(Path(ENTRIES[name].path).read_bytes())


def add_source_table(ctx: StageContext, staged: Path, name: str) -> None:
    """Adds the table of a source, as of the end of the day, if the feature job made it."""
    folder = storage.join(ctx.inputs["features"], name, feature_schema.AT_END)
    if storage.list_files(folder):
        table = parquet_files.read_folder(folder)
        if "_item" in table.column_names:
            table = table.sort_by("_item")
        pq.write_table(table, staged / version_manifest.source_table(name), compression="zstd")


def _items(ctx: StageContext, vectors: Path) -> pa.Table:
    """Ids, names, popularity, display and filter columns of the corpus, in the index's order.

    Raises:
      BadData: they differ from the items that have vectors.
    """
    corpus = storage.join(ctx.inputs["features"], feature_schema.CORPUS_END)
    with parquet_files.open_parquet(parquet_files.list_parquet(corpus)[0]) as file:
        names = [name for name in file.schema_arrow.names if name.startswith("_")]
    table = parquet_files.read_folder(corpus, names).sort_by("_item").combine_chunks()
    # Row i of the index is the i-th item in order of id, so both tables are sorted by id
    embedded = parquet_files.read_folder(str(vectors), ["_item"]).sort_by("_item")
    embedded = embedded.column("_item").combine_chunks()
    if not embedded.equals(table.column("_item").combine_chunks()):
        raise BadData(
            "Items and vectors of a version must match; the corpus of"
            f" {ctx.inputs['features']} has {len(table)} items, {ctx.inputs['embed']} has"
            f" {len(embedded)} vectors, of other items. Different runs made them. Run the embed"
            " stage again with --force, then index and publish."
        )
    return table


def publish(
    ctx: StageContext,
    registry: Registry,
    staged: Path,
    verdict: GateVerdict,
    *,
    reason: str | None = None,
    while_live: str | None = None,
    **origin: Any,
) -> dict[str, Any]:
    """Publishes the staged version. It goes live if the gate accepts it, and `ctx.promote` and the dates
    allow it.

    Args:
      staged: local folder with the version's files; the verdict is added.
      reason: for the log; by default the reason of the verdict.
      while_live: passed on to `Registry.publish`.
      origin: fields of the manifest that describe the version's origin.

    Returns: the summary of the stage.
    """
    # The verdict is a file of the version, so it must be written before the digests are taken
    verdict.write(staged)
    manifest = _describe(ctx, staged, verdict, registry.state().pruned, **origin)
    entry = registry.publish(
        str(staged),
        manifest,
        accepted=not verdict.refused,
        reason=reason or verdict.reason,
        promote=ctx.promote,
        side_files={version_manifest.REPORT: render(gather(ctx, staged, manifest, registry))},
        while_live=while_live,
    )
    # Also stored in the working files. The published manifest is read again, because it also describes the
    # report
    stored = registry.manifest(manifest.version)
    storage.write_bytes(storage.join(ctx.out, MANIFEST), stored.dump())
    measured, metric = DayMetrics.read(staged), ctx.pipeline.gate.metric
    served = served_figure.on_held_out(measured, verdict.serves, manifest.date, metric)
    return {
        "version": stored.version,
        "live": registry.live() == stored.version,
        "log_entry": entry.number,
        "refused": list(verdict.refused),
        "notes": list(verdict.notes),
        "served": served.as_json() if served else None,
        "gate": verdict.figures.model_dump(),
    }


def _describe(
    ctx: StageContext, staged: Path, verdict: GateVerdict, pruned: set[str], **origin: Any
) -> Manifest:
    """The manifest, with an id that no pruned version has used."""
    listed = storage.list_files(str(staged))
    digests = storage.file_digests(listed)
    files = {file.path: File(sha256=digests[file.path], size=file.size) for file in listed}
    # An id is used only once. If equal content was pruned before, it gets the next edition
    editions = (
        Manifest.create(
            pipeline=ctx.pipeline.name,
            files=files,
            edition=edition,
            settings=ctx.pipeline.model_dump(mode="json", by_alias=True, exclude=_PLACES),
            quality=verdict.figures,
            items=verdict.figures.items,
            dimension=IndexFigures.read(staged).dimension,
            software=_software(),
            **origin,
        )
        for edition in count(1)
    )
    return next(manifest for manifest in editions if manifest.version not in pruned)


def _software() -> dict[str, str]:
    versions = {"twinspire": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        # ScaNN, for example, is missing on some machines
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
