"""The publish stage: has the gate judge the version of a day, and publishes it."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from index_builder.gate.line_memory import LineMemory
from index_builder.gate.tower_rule import FEWEST, MeasuredUsers
from index_builder.gate.verdict import JudgedVersion, judge
from index_builder.publication import assemble, describe, summarise
from index_builder.registry.registry import Registry
from index_builder.report.facts import gather
from index_builder.report.page import render
from twinspire_core import storage
from twinspire_core.contracts import artifact_files, attempts, feature_schema
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.features_report import FeatureSkew, FeaturesReport
from twinspire_core.contracts.index_figures import IndexFigures
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.storage import parquet_files

_NUMBERS = {"whole numbers": r"-?\d+", "decimal numbers": r"-?\d+\.\d+"}
"""Forms of ids, for people. None tells who a user is."""


def run(ctx: StageContext) -> dict[str, Any]:
    """Publishes the day's version: live if the gate accepts it and `ctx.promote` and the date
    allow.

    Returns: The summary. `refused` lists the gate's reasons, if any; whoever called decides what
      that means.
    """
    registry = Registry(ctx.pipeline.registry.root, ctx.pipeline.name)
    with tempfile.TemporaryDirectory(prefix="twinspire-publish-") as scratch:
        staged = Path(scratch)
        assemble(ctx, staged)
        # The verdict is a file of the version, so it has to be there before the digests are taken
        measured = _measured(ctx, staged, registry)
        verdict = judge(measured, ctx.pipeline.gate, ctx.pipeline.index)
        verdict.write(staged)
        manifest = describe(ctx, staged, verdict, registry.state().pruned, **_origin(ctx))
        entry = registry.publish(
            str(staged),
            manifest,
            accepted=not verdict.refused,
            reason=verdict.reason,
            promote=ctx.promote,
            side_files={artifact_files.REPORT: render(gather(ctx, staged, manifest, registry))},
        )
    return summarise(ctx, registry, manifest.version, entry, verdict)


def _measured(ctx: StageContext, staged: Path, registry: Registry) -> JudgedVersion:
    metrics = DayMetrics.read(staged)
    baseline_items = None
    if ctx.parent:
        baseline_items = registry.manifest(ctx.parent.version).items
    figures = IndexFigures.read(staged)
    memory = LineMemory(day=ctx.day, best=metrics.best, line=metrics.line)
    return JudgedVersion(
        two_tower=metrics.holdout,
        fixed_order=metrics.fixed_order.holdout,
        # The day's own lead is remembered too, for the days after it
        lifts_before=[lifts for day, lifts in metrics.leads.items() if day != str(ctx.day)],
        ranker=metrics.ranker,
        memory=memory.since(registry.state().overruled),
        index_recall=figures.recall,
        items=figures.items,
        baseline_items=baseline_items,
        measurable=_measured_users(ctx, metrics),
        unread=metrics.parent_unread,
        skew=_skew(ctx),
    )


def _measured_users(ctx: StageContext, metrics: DayMetrics) -> MeasuredUsers:
    before = 0
    if ctx.parent and (of_parent := DayMetrics.find(ctx.parent.home)):
        before = of_parent.users_measured(ctx.parent.day)
    report = FeaturesReport.find(ctx.inputs["features"])
    now = metrics.users_measured(ctx.day)
    # Millions of ids, which only a reason to refuse names
    forms = _forms_of_ids(ctx) if now < FEWEST else {}
    return MeasuredUsers(now=now, before=before, of=report.users if report else 0, **forms)


def _forms_of_ids(ctx: StageContext) -> dict[str, str]:
    """What user ids look like, on the day and on the days before that others were held out on."""
    folder = storage.join(ctx.inputs["features"], feature_schema.EVALUATION)
    if not parquet_files.list_parquet(folder):
        return {}
    queries = parquet_files.read_folder(folder, ["_user", "_day"])
    is_today = pc.equal(queries["_day"], ctx.day)
    now = queries.filter(is_today)["_user"].to_pylist()
    before = queries.filter(pc.invert(is_today))["_user"].to_pylist()
    return {"ids": _form_of(now), "ids_before": _form_of(before)}


def _form_of(ids: Iterable[str]) -> str:
    """The form that most ids have; empty without ids."""
    forms = Counter(
        next((form for form, pattern in _NUMBERS.items() if re.fullmatch(pattern, one)), "texts")
        for one in ids
    )
    return forms.most_common(1)[0][0] if forms else ""


def _skew(ctx: StageContext) -> Sequence[FeatureSkew]:
    """What the features stage measured."""
    report = FeaturesReport.find(ctx.inputs["features"])
    return (report.skew or ()) if report else ()


def _origin(ctx: StageContext) -> dict[str, Any]:
    """What the manifest says of a version that was trained."""
    # From scratch a version has a baseline, and nothing that it goes on from
    inherits_from = ctx.parent if ctx.mode == "incremental" else None
    return {
        "day": ctx.day,
        "parent": inherits_from.version if inherits_from else None,
        "sources": {stage: attempts.name(ctx.pipeline, uri) for stage, uri in ctx.inputs.items()},
    }
