"""The facts of a report, read when its version is published, and the types of its sections. The template uses
only these types.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from index_builder.registry.quality_history import VersionQuality, quality_of
from index_builder.registry.version_log import Entry, State
from index_builder.registry.versions import Status, Versions
from twinspire_core import storage
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts import day_metrics, version_manifest
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import DayMetrics, ExampleList
from twinspire_core.contracts.features_report import FeaturesReport
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.version_manifest import IndexFigures, IndexTimings, Manifest
from twinspire_core.display.quality_tables import EvaluatedSet, held_out, on_the_day
from twinspire_core.display.served_figure import ServedFigure, on_held_out, on_its_day
from twinspire_core.display.table import Table, short_name
from twinspire_core.fusion.rank_fusion import FixedOrder


@dataclass(frozen=True, slots=True)
class Mark:
    """An entry of a legend.

    Attributes:
      colour: one of `NAMES` of charts.py.
      form: how the chart draws it: `line`, `dash`, `dot` or `area`.
    """

    colour: str
    label: str
    form: str = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart, with its message in words and its numbers in a table.

    Attributes:
      svg: inline SVG of charts.py.
      alt: what the chart shows, for readers who cannot see it.
      caption: how to read the chart.
    """

    title: str
    svg: str
    alt: str
    caption: str
    table: Table
    legend: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of the page: paragraphs, then figures, tables and examples.

    Attributes:
      anchor: address in the page, after `#`.
      half: whether two such sections may stand side by side.
    """

    anchor: str
    title: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    examples: Sequence[ExampleList] = ()
    half: bool = False


_MOST_DAYS = 60


@dataclass(frozen=True, slots=True)
class Day:
    """A day's version in the trend.

    Attributes:
      status: `live`, `accepted`, `refused` or `rolled back`; `this` for the version of this report.
      served: quality of the lists that were served on the day; None if not measured.
      settings: the pipeline file of that day.
    """

    day: date
    version: str
    status: str
    metrics: DayMetrics
    served: ServedFigure | None
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The version that this one is compared with.

    Attributes:
      live: whether it was live when this one was published; if not, it is the parent.
      items: names of the corpus's items by id.
    """

    manifest: Manifest
    live: bool
    items: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All facts of a report.

    Attributes:
      metric: the measure that the gate judges, such as `recall@50`.
      k: the list length of that measure.
      user_store: whether users may be named, because the version stores all of them.
      goes_live: whether the version is live once it is published.
      serves_before: the list that the version before serves, by the gate's verdict.
      limits: the gate's settings.
      recall_target: share of exact neighbours that the index must find.
      order: the fixed order; None if the version has none.
      speed: timings of the index on the machine that built it; None if its working files are gone.
      data: report of the features stage; None if its working files are gone.
      examples: lists to look at; may be empty.
      days: a version for each day, oldest first; this one is the last.
      previous: None on the first day.
      items: names of the corpus's items by id, the most popular first.
    """

    manifest: Manifest
    metric: str
    k: int
    user_store: bool
    metrics: DayMetrics
    gate: GateVerdict
    goes_live: bool
    serves_before: str | None = None
    limits: GateConfig
    recall_target: float
    index: IndexFigures
    order: FixedOrder | None
    speed: IndexTimings | None
    data: FeaturesReport | None
    examples: Sequence[ExampleList]
    days: list[Day]
    previous: Previous | None
    items: Mapping[str, str | None]

    @property
    def evaluated_sets(self) -> tuple[EvaluatedSet, EvaluatedSet]:
        """The lists that were measured: for all users of the day, and for those held out."""
        day = self.manifest.date
        return (
            on_the_day(self.metrics, day, self.serves_before),
            held_out(self.metrics, day, self.gate.serves),
        )

    @property
    def served(self) -> ServedFigure | None:
        """The first figure: quality of the lists served on the day, or of lists for held-out users."""
        held_out = on_held_out(self.metrics, self.gate.serves, self.manifest.date, self.metric)
        return self.days[-1].served or held_out

    @property
    def of_the_model(self) -> EvaluatedSet:
        """Lists for all users of the day; for held-out users if there was no two-tower before the day."""
        of_all, of_held_out = self.evaluated_sets
        return of_all if of_all.of_model else of_held_out


def gather(ctx: StageContext, staged: Path, described: Manifest, versions: Versions) -> Facts:
    """Reads the facts of a report.

    Args:
      ctx: context of the publish stage.
      staged: local folder with the version's files.
      described: manifest of the version.
      versions: the versions that were published before.
    """
    metric = ctx.pipeline.gate.metric
    metrics = DayMetrics.read(staged)
    gate = GateVerdict.read(staged)
    log = versions.log()
    serves_before = None
    if ctx.parent and (before := GateVerdict.find(versions.folder(ctx.parent.version))):
        serves_before = before.serves
    return Facts(
        manifest=described,
        metric=metric,
        # `mrr` has no list length in its name.
        k=int(metric.partition("@")[2] or max(ctx.pipeline.evaluation.ks)),
        user_store=ctx.pipeline.serving.user_store is True,
        metrics=metrics,
        gate=gate,
        # The page is written before the version is published, so this predicts the registry's decision.
        goes_live=bool(gate.accepted)
        and State.of(log).goes_live(described.version, ctx.promote, described.corpus_date),
        serves_before=serves_before,
        limits=ctx.pipeline.gate,
        recall_target=ctx.pipeline.index.recall_target,
        index=IndexFigures.read(staged),
        order=FixedOrder.find(staged),
        speed=IndexTimings.find(ctx.inputs["index"]),
        data=FeaturesReport.find(ctx.inputs["features"]),
        examples=_examples(ctx),
        days=[
            *_days(versions, log, described, metric),
            Day(
                described.date,
                described.version,
                "this",
                metrics,
                on_its_day(metrics, serves_before, described.date, metric),
                described.settings,
            ),
        ],
        previous=_previous(ctx, described, versions),
        items=_names((staged / version_manifest.ITEMS).read_bytes()),
    )


def _examples(ctx: StageContext) -> list[ExampleList]:
    path = storage.join(ctx.inputs["measure"], day_metrics.EXAMPLES)
    return day_metrics.parse_examples(storage.read_bytes(path)) if storage.exists(path) else []


def _days(
    versions: Versions, log: Sequence[Entry], described: Manifest, metric: str
) -> Iterator[Day]:
    """A version for each earlier day, oldest first."""
    chosen = best_of_days(
        v for v in versions.statuses(log) if v.stored and v.date < described.date
    )[-_MOST_DAYS:]
    return trend_days(chosen, quality_of(versions, log, [v.version for v in chosen]), metric)


def best_of_days(statuses: Iterable[Status]) -> list[Status]:
    """A version for each day, oldest first: the newest accepted one, or else the newest."""
    # Later entries of a day replace earlier ones, so the best one comes last.
    ranked = sorted(statuses, key=lambda v: (v.date, v.status in ("live", "accepted"), v.at))
    return list({v.date: v for v in ranked}.values())


def trend_days(
    chosen: Iterable[Status], qualities: Mapping[str, VersionQuality], metric: str
) -> Iterator[Day]:
    """The lists served on the days of these versions."""
    for v in chosen:
        quality = qualities[v.version]
        # A figure of held-out users does not belong to the trend of served lists.
        figure = quality.served_on_its_day(metric)
        served = None if figure and figure.held_out else figure
        yield Day(v.date, v.version, v.status, quality.metrics, served, quality.settings)


def _previous(ctx: StageContext, described: Manifest, versions: Versions) -> Previous | None:
    version = versions.live()
    # A version that is published again may be live already. It is not compared with itself.
    is_other = version is not None and version != described.version
    if not is_other:
        version = ctx.parent.version if ctx.parent else None
    if version is None:
        return None
    return Previous(
        manifest=versions.manifest(version),
        live=is_other,
        items=_names(storage.read_bytes(versions.place(version, version_manifest.ITEMS))),
    )


def _names(items: bytes) -> dict[str, str | None]:
    table = pq.read_table(BytesIO(items), columns=["_item", "_name", "_popular"])
    # The most popular first, because the page names only the first few of many new items.
    table = table.sort_by([("_popular", "descending"), ("_item", "ascending")])
    names = [name and short_name(name) for name in table["_name"].to_pylist()]
    return dict(zip(table["_item"].to_pylist(), names, strict=True))
