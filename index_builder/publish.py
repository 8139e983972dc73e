"""Assembles the version of a day, has it judged by the gate, and publishes it."""

import json
import platform
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import schema
from index_builder.gate import Measured, Verdict, judge
from index_builder.manifest import File, Manifest
from index_builder.registry import Registry
from model import bundle
from twinspire import __version__, storage, workdir
from twinspire.stages import StageContext

# What a version holds; docs/artifact-format.md describes each.
VECTORS = "vectors"
INDEX = "index"
INDEX_FIGURES = "index.json"
ITEMS = "items.parquet"
USERS = "users"
_LIBRARIES = ("tensorflow", "tensorflow-transform", "apache-beam", "scann", "numpy", "pyarrow")


def run(ctx: StageContext) -> dict:
    """Publishes the day's version: live if the gate accepts it and `ctx.promote` and the date allow.

    Returns:
      The summary. `refused` lists the gate's reasons, if any; whoever called decides what that means.
    """
    registry = Registry(ctx.pipeline.registry.root, ctx.pipeline.name)
    with tempfile.TemporaryDirectory(prefix="twinspire-publish-") as scratch:
        staged = Path(scratch)
        _assemble(ctx, staged)
        measured = _measured(ctx, staged, registry)
        verdict = judge(measured, ctx.pipeline.gate, ctx.pipeline.index)
        (staged / "gate.json").write_text(json.dumps(_verdict(verdict), indent=1))
        manifest = _describe(ctx, staged, verdict)
        reason = "; ".join(verdict.refused) or "accepted by the gate"
        entry = registry.publish(str(staged), manifest, accepted=verdict.accepted, reason=reason, promote=ctx.promote)
    storage.write_bytes(storage.join(ctx.out, "manifest.json"), manifest.dump())
    return {
        "version": manifest.version,
        "live": registry.live() == manifest.version,
        "log_entry": entry.number,
        "refused": list(verdict.refused),
        "notes": list(verdict.notes),
        "gate": verdict.figures,
    }


def _assemble(ctx: StageContext, staged: Path) -> None:
    """Copies what a version holds out of the stages' working files."""
    train, embed = ctx.inputs["train"], ctx.inputs["embed"]
    for name in (bundle.QUERY_TOWER, bundle.ITEM_TOWER):
        storage.copy_tree(storage.join(train, name), str(staged / name))
    storage.copy_tree(storage.join(embed, "items"), str(staged / VECTORS))
    storage.copy_tree(storage.join(ctx.inputs["index"], INDEX), str(staged / INDEX))
    for source, name in ((train, bundle.METRICS), (ctx.inputs["index"], INDEX_FIGURES)):
        (staged / name).write_bytes(storage.read_bytes(storage.join(source, name)))
    pq.write_table(_items(ctx), staged / ITEMS, compression="zstd")
    if ctx.pipeline.serving.user_store:
        storage.copy_tree(storage.join(ctx.inputs["features"], schema.USERS), str(staged / USERS))


def _items(ctx: StageContext) -> pa.Table:
    """Ids, names, popularity, display and filter columns of the corpus, in the index's order."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = storage.localize(storage.join(ctx.inputs["features"], schema.CORPUS_END), Path(scratch))
        table = pq.read_table(folder)
    return table.select([name for name in table.column_names if name.startswith("_")]).sort_by("_item")


def _measured(ctx: StageContext, staged: Path, registry: Registry) -> Measured:
    holdout = json.loads((staged / bundle.METRICS).read_text()).get(bundle.HOLDOUT) or {}
    figures = json.loads((staged / INDEX_FIGURES).read_text())
    return Measured(
        candidate=holdout.get("candidate"),
        baseline=holdout.get("baseline"),
        users=holdout.get("users", 0),
        index_recall=figures["recall"],
        items=figures["items"],
        baseline_items=registry.manifest(ctx.parent.version).items if ctx.parent else None,
    )


def _describe(ctx: StageContext, staged: Path, verdict: Verdict) -> Manifest:
    files = {
        file.path: File(sha256=storage.file_digest(file.uri), size=file.size)
        for file in storage.list_files(str(staged))
    }
    return Manifest.create(
        pipeline=ctx.pipeline.name,
        day=ctx.day,
        files=files,
        parent=ctx.parent.version if ctx.parent and ctx.mode == "incremental" else None,
        quality=verdict.figures,
        items=verdict.figures["items"],
        dimension=ctx.pipeline.train.dimension,
        sources={stage: workdir.name(ctx.pipeline, uri) for stage, uri in ctx.inputs.items()},
        software=_software(),
    )


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "accepted": verdict.accepted,
        "refused": verdict.refused,
        "notes": verdict.notes,
        "figures": verdict.figures,
    }


def _software() -> dict[str, str]:
    found = {"twinspire": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
