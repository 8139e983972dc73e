"""What the index finds, and what it costs."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from index_builder.report import charts
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import NONE, Figure, Mark, Section, Table, count, number


def search(facts: Facts) -> Section:
    """Recall against exact search, and the settings that were tried."""
    index, speed = facts.index, facts.speed
    text = [
        f"The index is of the kind “{index['kind']}”: {'; '.join(index.get('reasons') or [])}. It"
        f" finds {number(index.get('recall'), 4)} of the {index['k']} exact neighbours;"
        f" {index.get('recall_target')} was asked for."
    ]
    text += _origin(index.get("tuning"))
    if speed:
        text.append(
            f"On the machine that built it: {_ms(speed.get('single_ms_median'))} for one query"
            f" (99th percentile {_ms(speed.get('single_ms_p99'))});"
            f" {count(round(speed['batch_queries_per_s']))} queries a second in batches,"
            f" {count(round(speed['exact_queries_per_s']))} by exact search."
        )
    tried = index.get("tried") or []
    if not tried:
        text.append(
            "No settings were tried: all items are compared, and there is nothing to trade."
        )
    figures = [_tradeoff(index, tried, speed.get("tried_ms"))] if len(tried) > 1 else []
    return Section(
        anchor="index",
        title="Search: recall against latency",
        text=text,
        figures=figures,
        half=True,
    )


def _origin(tuning: Mapping[str, Any] | None) -> list[str]:
    """Whether the settings were inherited or tuned; versions of release 0.1.0 do not tell."""
    if not tuning or not tuning["kinds"]:
        return []
    searched = f"searched for on {date.fromisoformat(tuning['searched']):%-d %B %Y}"
    if tuning["how"] == "inherited":
        return [
            f"Its settings are inherited from {tuning['version']}; they were {searched}, and still"
            " reach it."
        ]
    if tuning["version"]:
        return [f"Its settings were {searched} and tuned again for this version: {tuning['why']}."]
    return [f"Its settings were searched for anew: {tuning['why']}."]


def _tradeoff(
    index: Mapping[str, Any], tried: list[dict[str, Any]], ms: list[float] | None
) -> Figure:
    timed = ms is not None and len(ms) == len(tried)
    cost, unit = (
        (ms or [], "ms per query, in a batch")
        if timed
        else ([p["work"] for p in tried], "work per query, codes")
    )
    settings = index["settings"]
    chosen = next(
        (
            n
            for n, p in enumerate(tried)
            if all(p.get(key) == value for key, value in settings.items())
        ),
        None,
    )
    recalls = [p["recall"] for p in tried]
    rows = [
        [
            str(p.get("code_dimensions", 2)),
            f"{p['leaves_searched']} of {p['leaves']}" if p.get("leaves") else "all",
            count(p["rescored"]),
            number(p["recall"], 4),
            count(p["work"]),
            f"{ms[n]:.3f}" if timed and ms else NONE,
        ]
        for n, p in enumerate(tried)
    ]
    marks = [Mark("parent", "tried", "dot"), Mark("target", "asked for", "dash")]
    return Figure(
        title=f"Recall@{index['k']} of the settings tried",
        svg=charts.tradeoff(
            "index",
            cost,
            recalls,
            chosen,
            index["recall_target"],
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


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f} ms"
