"""Collects the results to commit, with ratios of the served lists to other contenders, and writes them into
the tables of README.md and docs/measurements.md, between marks.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.quality import served, served_with_events
from benchmarks.quality.command import machine, write_whole
from benchmarks.quality.contenders import AS_OF_EVENTS, READ_THE_DAY
from benchmarks.quality.data import ROOT
from benchmarks.quality.days import DEVELOPMENT, TOWERS
from benchmarks.quality.figures import HEADLINE, METRICS, SLICES, Result, by_case, holm, ratio
from benchmarks.quality.logs import CASES

OURS = "twinspire/served"
RANKED = "twinspire/ranked"
SENT = served_with_events.NAME
"""The same with live events: compared with peers that know them, too."""
TWO_TOWER = "twinspire/two-tower"
PAIRS = ((TWO_TOWER, "tfrs"), served.ON_DEMAND)
"""Our two-tower against the peer's; a first version against a version of an older chain."""
MEASURES = (HEADLINE, "ndcg@10")
ALL = "all"
"""All users with a history, instead of a slice."""
RESULTS = Path(__file__).resolve().parent / "results.json"
README = ROOT / "README.md"
MEASUREMENTS = ROOT / "docs" / "measurements.md"
BEGIN = "<!-- {}: begin -->"
END = "<!-- {}: end -->"
ORDER = {case: place for place, case in enumerate(CASES)}
IN_SHORT = {"groceries/next-day": "groceries", "small-shop/next-day": "small shop"}
"""The cases of README's table. News and films have no row: settings were chosen on their days."""
FIGURE = ("case", "period", "kind", "contender")
RATIO = ("case", "period", "kind", "users", "measure", "above", "below")
"""Keys that identify a figure, and a ratio."""
PEERS_SHOWN = 4
"""Number of peers per case in the table, the best ones; results.json has all."""
SURE = 0.05
Row = Mapping[str, Any]
Results = Mapping[str, Any]


def collect(results: Sequence[Result]) -> dict[str, Any]:
    """The results of a run to commit: figures with settings, seeds and commit, and ratios."""
    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {
        "machine": machine(),
        "figures": [{**result.row(), "commit": commit.strip()} for result in results],
        "ratios": ratios(results),
    }


def ratios(results: Iterable[Result]) -> list[Row]:
    """All ratios of measured contenders, as in results.json; for `HEADLINE` also in slices of users."""
    made: list[Row] = []
    for (case, _), contenders in by_case(results).items():
        period = next(iter(contenders.values())).period
        for peer in contenders:
            if not peer.startswith("twinspire"):
                above = _compared(case, period, peer)
                made += _ratios_of(contenders, above, peer, MEASURES, slices=period != TOWERS)
        for above, below in () if period == TOWERS else PAIRS:
            made += _ratios_of(contenders, above, below, (HEADLINE,), slices=False)
    return made


def _compared(case: str, period: str, peer: str) -> str:
    """The contender of ours that a peer is compared with."""
    if period == TOWERS:
        return TWO_TOWER
    return SENT if peer in READ_THE_DAY and case in AS_OF_EVENTS else OURS


def _ratios_of(
    contenders: Mapping[str, Result],
    above: str,
    below: str,
    measures: tuple[str, ...],
    *,
    slices: bool = True,
) -> Iterator[Row]:
    if above not in contenders or below not in contenders:
        return
    for measure in measures:
        yield _ratio_row(ALL, measure, contenders[above].known, contenders[below].known)
    for number, name in enumerate(SLICES if slices else ()):
        part = contenders[above].slice(number), contenders[below].slice(number)
        if len(part[0].user):
            yield _ratio_row(name, HEADLINE, *part)


def _ratio_row(users: str, measure: str, above: Result, below: Result) -> Row:
    return {
        "case": above.case,
        "period": above.period,
        "kind": above.kind,
        "counts": above.counts,
        "users": users,
        "measure": measure,
        "above": above.contender,
        "below": below.contender,
        **asdict(ratio(above, below, measure)),
        "queries": len(above.user),
    }


def merged(new: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A run's results, and earlier results of other cases and contenders."""
    for part, key in (("figures", FIGURE), ("ratios", RATIO)):
        done = {tuple(row[name] for name in key) for row in new[part]}
        kept = [row for row in before.get(part, []) if tuple(row[name] for name in key) not in done]
        new[part] = sorted(kept + new[part], key=lambda row: ORDER.get(row["case"], 0))
    return new


def write(new: dict[str, Any]) -> None:
    """Merges a run's results into results.json, and writes the tables of the pages."""
    results = merged(new, json.loads(RESULTS.read_text()) if RESULTS.exists() else {})
    write_whole(RESULTS, json.dumps(results, indent=1) + "\n")
    for page in (README, MEASUREMENTS):
        page.write_text(with_tables(page.read_text(), results))


def with_tables(text: str, results: Results) -> str:
    """A page with new tables between its marks. Tables without marks are left out."""
    tables = {
        "quality": figures_table,
        "quality in short": short_table,
        "quality slices": slices_table,
    }
    for name, table in tables.items():
        begin = BEGIN.format(name)
        end = END.format(name)
        if begin in text and end in text:
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}\n{table(results)}\n{end}{rest.split(end, 1)[1]}"
    return text


def figures_table(results: Results) -> str:
    """For each case: our lists, the best peers, and the ratio of the served lists to each. A case with judged
    days shows only these. Its first row names the case.
    """
    lines = [
        f"| case and days | contender | {' | '.join(METRICS)} | CPU s a day | served / it,"
        f" {' | '.join(MEASURES)} |",
        f"|---|---|{'--:|' * (len(METRICS) + 1 + len(MEASURES))}",
    ]
    judged = {r["case"] for r in results["figures"] if r["period"] != DEVELOPMENT}
    for case in dict.fromkeys((r["case"], r["period"]) for r in results["figures"]):
        if case[0] in judged and case[1] == DEVELOPMENT:
            continue
        rows = [r for r in results["figures"] if (r["case"], r["period"]) == case and r["counts"]]
        ranked = sorted(rows, key=lambda r: (not _is_ours(r), -r[HEADLINE]))
        ours = sum(map(_is_ours, rows))
        shown = [row for row in ranked[: ours + PEERS_SHOWN] if not _is_repeated(row, rows)]
        lines += [_line(row, results, named=row is shown[0]) for row in shown]
    return "\n".join(lines)


def _is_repeated(row: Row, rows: Iterable[Row]) -> bool:
    """Whether a row is the ranker's order where that is what is served."""
    if row["contender"] != RANKED:
        return False
    served_rows = (other for other in rows if other["contender"] == OURS)
    return any(all(other[m] == row[m] for m in METRICS) for other in served_rows)


def _line(row: Row, results: Results, *, named: bool) -> str:
    case = f"{_label(row)}, seen {row['kind']}" if named else ""
    figures = " | ".join(f"{row[metric]:.3f}" for metric in METRICS)
    star = "*" if row["trained"] == "weekly" else ""
    cpu = row["cpu_seconds_a_day"]
    cells = [_ratio(_ratio_to(row, metric, results)) for metric in MEASURES]
    return (
        f"| {case} | {row['contender']}{star} | {figures} |"
        f" {'' if cpu is None else f'{cpu:,.0f}'} | {' | '.join(cells)} |"
    )


def _label(row: Row) -> str:
    return f"{row['case']} ({_days(row)}, days: {row['days']})"


def _days(row: Row) -> str:
    """Whether the days are development or judged days, and of which judgement."""
    names = {DEVELOPMENT: DEVELOPMENT, TOWERS: "judged, two-tower alone"}
    return names.get(row["period"], "judged")


def short_table(results: Results) -> str:
    """README's rows: the served lists against the best other method of each row. This choice with hindsight
    favours the other method.
    """
    lines = [
        "| next day | ours | strongest other | its score | ours / its, 95% interval |",
        "|---|--:|---|--:|--:|",
    ]
    for case, measure in product(IN_SHORT, MEASURES):
        rows = [r for r in results["figures"] if r["case"] == case and r["counts"]]
        served_rows = [r for r in rows if r["contender"] == OURS]
        ours = max(served_rows, key=lambda r: r["period"] != DEVELOPMENT)
        peers = [r for r in rows if r["period"] == ours["period"] and not _is_ours(r)]
        best = max(peers, key=lambda r: r[measure])
        ours_to_best = _ratio_to(best, measure, results)
        ratio_text = (
            _ratio(ours_to_best) if ours_to_best else f"{ours[measure] / best[measure]:.3f}"
        )
        lines.append(
            f"| {IN_SHORT[case]}, {measure} ({_days(ours)}) | {ours[measure]:.3f} |"
            f" {best['contender']} | {best[measure]:.3f} | {ratio_text} |"
        )
    return "\n".join(lines)


def slices_table(results: Results) -> str:
    """The slices of users in which the served lists are surely worse than a peer, after Holm's adjustment
    over all slices of this table.
    """
    rows = [
        r for r in results["ratios"] if r["users"] != ALL and r["counts"] and r["p"] is not None
    ]
    sure = [p < SURE for p in holm([r["p"] for r in rows])]
    below = [r for r, is_sure in zip(rows, sure, strict=True) if is_sure and r["found"] < 1]
    lines = [
        f"Served lists are surely worse in {len(below)} of {len(rows)} comparisons.",
        "",
        "| case and days | users | queries | peer | ratio, 95% interval |",
        "|---|---|--:|---|--:|",
    ]
    lines += [
        f"| {r['case']} ({_days(r)}) | {r['users']} | {r['queries']:,} | {r['below']} | {_ratio(r)} |"
        for r in below
    ]
    return "\n".join(lines if below else lines[:1])


def _is_ours(row: Row) -> bool:
    return str(row["contender"]).startswith("twinspire")


def _ratio_to(row: Row, measure: str, results: Results) -> Row | None:
    """The ratio of our lists to those of a figure's contender."""
    above = _compared(row["case"], row["period"], row["contender"])
    key = {"users": ALL, "measure": measure, "above": above}
    key |= {name: row[name] for name in ("case", "period", "kind")} | {"below": row["contender"]}
    return next((r for r in results["ratios"] if key.items() <= r.items()), None)


def _ratio(row: Row | None) -> str:
    """A ratio with its interval, or with the ratio of each day if there are too few days."""
    if row is None or row["found"] is None:
        return ""
    text = f"{row['found']:.3f}"
    if row["low"] is not None:
        text += f" ({row['low']:.3f} to {row['high']:.3f})"
    elif len(row["daily"]) > 1:
        text += f"; by day {', '.join(f'{x:.2f}' for x in row['daily'].values() if x)}"
    return text
