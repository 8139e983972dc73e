"""Made-up facts for a report."""

from datetime import timedelta

import pytest

from index_builder.report.facts import Day, Facts, Previous
from tests.index_builder.report.pages import FIRST, manifest, metrics
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.day_metrics import DayMetrics, ExampleList
from twinspire_core.contracts.features_report import DayStatistics, FeaturesReport
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.version_manifest import IndexFigures, IndexTimings
from twinspire_core.display.served_figure import on_its_day
from twinspire_core.fusion.rank_fusion import FixedOrder

SETTINGS = {"columns": {"positives": ["buy"]}}


@pytest.fixture
def facts():
    """A fourth day."""
    days = [FIRST + timedelta(days=n) for n in range(4)]
    actual = [
        DayMetrics.model_validate(metrics(p, h, b))
        for p, h, b in ((None, 0.1, None), (0.1, 0.2, 0.16), (0.3, 0.2, 0.2), (0.2, 0.25, 0.2))
    ]
    settings = {"kind": "quantised", "k": 10, "rescored": 20, "leaves": 0, "leaves_searched": 0}
    point = {**settings, "recall": 0.97, "work": 500}
    chosen = {**point, "rescored": 40, "recall": 0.99, "work": 700}
    tuned = {"how": "tuned", "items": 4, "kinds": [], "work": 700}
    index = {"kind": "quantised", "items": 4, "dimension": 16, "k": 10, "reasons": ["4 items"]}
    index |= {"recall": 0.985, "recall_error": 0.001, "recall_target": 0.98, "tuning": tuned}
    index |= {"queries": {"tuning": 20, "measuring": 20, "source": "users"}}
    index |= {"settings": {key: chosen[key] for key in settings}, "tried": [point, chosen]}
    speed = {"single_ms_median": 0.5, "single_ms_p99": 0.75}
    speed |= {"batch_queries_per_s": 1000.4, "exact_queries_per_s": 500.0}
    gate = {"accepted": True, "notes": ["few users"], "figures": {"users": 20, "items": 4}}
    lists = {"history": ["c", "gone"], "items": ["a", "b"], "taken": ["b"]}
    statistics = DayStatistics(anomalies=["price: odd"])
    rejected = {"no time": 3}
    return Facts(
        manifest=manifest(days[-1]),
        metric="recall@50",
        k=50,
        user_store=False,
        metrics=actual[-1],
        gate=GateVerdict.model_validate(gate),
        goes_live=True,
        limits=GateConfig(),
        recall_target=0.98,
        index=IndexFigures.model_validate(index),
        order=FixedOrder(weights={"two_tower": 0.25, "history": 0.75}, kind="repeats"),
        speed=IndexTimings.model_validate(speed),
        data=FeaturesReport(rows=1000, rejected=rejected, users=20, statistics=statistics),
        examples=[ExampleList(user="secret-7", past_events=3, **lists)],
        days=[
            Day(d, str(d), "accepted", m, on_its_day(m, None, d, "recall@50"), SETTINGS)
            for d, m in zip(days, actual, strict=True)
        ],
        previous=Previous(
            manifest=manifest(days[2], items=3), live=True, items={"a": "An a", "old": "Old one"}
        ),
        items={"a": "An a", "b": "A <b>bold</b> one & more", "c": None, "d": "d"},
    )
