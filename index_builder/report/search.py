"""What the index finds, and what it costs."""

from collections.abc import Sequence
from datetime import date

from index_builder.report import charts
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import NONE, Figure, Mark, Section, Table, count, number
from twinspire_core.contracts.index_figures import IndexFigures, SettingsOrigin
from twinspire_core.contracts.timings import IndexTimings


def search(facts: Facts) -> Section:
    """Recall against exact search, and the settings that were tried."""
    index, speed = facts.index, facts.speed
    text = [
        f"The index is of the kind “{index.kind}”: {'; '.join(index.reasons)}. It"
        f" finds {number(index.recall, 4)} of the {index.k} exact neighbours;"
        f" {index.recall_target} was asked for."
    ]
    text += _origin(index.tuning)
    if speed:
        text.append(
            f"On the machine that built it: {speed.single_ms_median:.2f} ms for one query"
            f" (99th percentile {speed.single_ms_p99:.2f} ms);"
            f" {count(round(speed.batch_queries_per_s))} queries a second in batches,"
            f" {count(round(speed.exact_queries_per_s))} by exact search."
        )
    if not index.tried:
        text.append(
            "No settings were tried: all items are compared, and there is nothing to trade."
        )
    return Section(
        anchor="index",
        title="Search: recall against latency",
        text=text,
        figures=[_tradeoff(index, speed)] if len(index.tried) > 1 else [],
        half=True,
    )


def _origin(tuning: SettingsOrigin | None) -> list[str]:
    """Whether the settings were inherited or tuned; versions of release 0.1.0 do not tell."""
    if tuning is None or not tuning.kinds or tuning.searched is None:
        return []
    searched = f"searched for on {date.fromisoformat(tuning.searched):%-d %B %Y}"
    if tuning.how == "inherited":
        return [
            f"Its settings are inherited from {tuning.version}; they were {searched}, and still"
            " reach it."
        ]
    if tuning.version:
        return [f"Its settings were {searched} and tuned again for this version: {tuning.why}."]
    return [f"Its settings were searched for anew: {tuning.why}."]


def _tradeoff(index: IndexFigures, speed: IndexTimings | None) -> Figure:
    tried = index.tried
    # Timings are of the attempt, figures of the version: those of another attempt do not belong.
    ms = speed.tried_ms if speed and len(speed.tried_ms) == len(tried) else None
    cost: Sequence[float] = [point.work for point in tried] if ms is None else ms
    unit = "work per query, codes" if ms is None else "ms per query, in a batch"
    chosen = next((n for n, point in enumerate(tried) if point.key == index.settings.key), None)
    recalls = [point.recall for point in tried]
    rows = [
        [
            str(point.code_dimensions),
            f"{point.leaves_searched} of {point.leaves}" if point.leaves else "all",
            count(point.rescored),
            number(point.recall, 4),
            count(point.work),
            f"{ms[n]:.3f}" if ms else NONE,
        ]
        for n, point in enumerate(tried)
    ]
    marks = [Mark("parent", "tried", "dot"), Mark("target", "asked for", "dash")]
    return Figure(
        title=f"Recall@{index.k} of the settings tried",
        svg=charts.tradeoff(
            "index",
            cost,
            recalls,
            chosen,
            index.recall_target,
            (unit, "share of exact neighbours"),
        ),
        alt=(
            f"{len(tried)} settings, recall from {number(min(recalls), 4)} to"
            f" {number(max(recalls), 4)}"
        )
        + (
            f"; the one chosen has {number(recalls[chosen], 4)}."
            if chosen is not None
            else "; none was chosen."
        ),
        caption=(
            "Settings are tuned on half of the sampled users, and the recall above is measured on"
            " the other half. The choice is by counted work, so that a busy machine chooses alike."
        )
        + ("" if chosen is not None else " None of these was cheaper than comparing all items."),
        legend=[*([Mark("two_tower", "chosen", "dot")] if chosen is not None else []), *marks],
        table=Table(
            head=["code", "leaves", "rescored", "recall", "work", "ms"],
            rows=rows,
            caption=(
                "Settings tried, in the order of trying; dimensions per 4-bit code; work in scans"
                " of one code"
            ),
            strong=[chosen] if chosen is not None else [],
        ),
    )
