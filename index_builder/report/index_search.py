"""How the index trades recall for latency, and where its settings come from."""

from collections.abc import Sequence
from datetime import date

from index_builder.report import charts
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Figure, Mark, Section
from twinspire_core.contracts.index_figures import IndexFigures, SettingsOrigin, TriedSettings
from twinspire_core.contracts.timings import IndexTimings
from twinspire_core.display.figures import count, number
from twinspire_core.display.table import Style, Table, in_style


def search(facts: Facts) -> Section:
    """Recall against exact search, and the settings that were tried."""
    index = facts.index
    speed = facts.speed
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


def _origin(tuning: SettingsOrigin) -> list[str]:
    """Whether the settings were inherited or tuned."""
    if not tuning.kinds or tuning.searched is None:
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
    # Timings lie in the working files, figures in the version: those of another attempt, whose
    # files took these' place, do not belong together.
    ms = None
    if speed and len(speed.tried_ms) == len(tried):
        ms = speed.tried_ms
    if ms is None:
        cost: Sequence[float] = [point.work for point in tried]
        unit = "work per query, codes"
    else:
        cost = ms
        unit = "ms per query, in a batch"
    recalls = [point.recall for point in tried]
    lowest, highest = number(min(recalls), 4), number(max(recalls), 4)
    alt = f"{len(tried)} settings, recall from {lowest} to {highest}"
    caption = (
        "Settings are tuned on half of the sampled users, and the recall above is measured on the"
        " other half. The choice is by counted work, so that a busy machine chooses alike."
    )
    legend = [Mark("parent", "tried", "dot"), Mark("target", "asked for", "dash")]
    chosen = next((n for n, point in enumerate(tried) if point.key == index.settings.key), None)
    if chosen is None:
        alt += "; none was chosen."
        caption += " None of these was cheaper than comparing all items."
    else:
        alt += f"; the one chosen has {number(recalls[chosen], 4)}."
        legend.insert(0, Mark("two_tower", "chosen", "dot"))
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
        alt=alt,
        caption=caption,
        legend=legend,
        table=_tried_table(tried, ms, chosen),
    )


def _tried_table(
    tried: Sequence[TriedSettings], ms: Sequence[float] | None, chosen: int | None
) -> Table:
    rows = []
    for place, point in enumerate(tried):
        row = [
            str(point.code_dimensions),
            f"{point.leaves_searched} of {point.leaves}" if point.leaves else "all",
            count(point.rescored),
            number(point.recall, 4),
            count(point.work),
            number(ms[place] if ms else None),
        ]
        rows.append(in_style(row, Style.STRONG if place == chosen else None))
    return Table(
        head=["code", "leaves", "rescored", "recall", "work", "ms"],
        rows=rows,
        title=(
            "Settings tried, in the order of trying; dimensions per 4-bit code; work in scans of"
            " one code"
        ),
    )
