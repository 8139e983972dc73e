"""Results as they are committed, and the tables of README.md and docs/measurements.md, which are
written from them between marks.
"""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.command import machine, write_whole
from benchmarks.quality.data import ROOT
from benchmarks.quality.figures import HEADLINE, Result
from benchmarks.quality.logs import CASES
from benchmarks.quality.targets import ALL, FEWEST, OURS, Target

RESULTS = Path(__file__).resolve().parent / "results.json"
README = ROOT / "README.md"
MEASUREMENTS = ROOT / "docs" / "measurements.md"
BEGIN = "<!-- {}: begin -->"
END = "<!-- {}: end -->"
Row = Mapping[str, Any]
_ORDER = {case: place for place, case in enumerate(CASES)}


def told(results: Iterable[Result], reached: Iterable[Target]) -> dict[str, Any]:
    """What is committed of a run: each figure with its settings and seeds, each ratio."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "machine": machine(),
        "commit": commit.stdout.strip(),
        "figures": [result.row() for result in results],
        "ratios": [target.row() for target in reached],
    }


def merged(new: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A run's results with those of earlier runs of other cases."""
    cases = {row["case"] for row in new["figures"]}
    for part in ("figures", "ratios"):
        rows = [row for row in before.get(part, []) if row["case"] not in cases] + new[part]
        new[part] = sorted(rows, key=lambda row: _ORDER.get(row["case"], 0))
    return new


def write(found: Mapping[str, Any]) -> None:
    """Writes results.json, and the pages' tables from it."""
    write_whole(RESULTS, json.dumps(found, indent=1) + "\n")
    for page in (README, MEASUREMENTS):
        page.write_text(with_tables(page.read_text(), found))


def with_tables(text: str, found: Mapping[str, Any]) -> str:
    """A page with the tables of results between its marks; what has no marks stays as it is."""
    tables = {
        "quality": figures_table,
        "quality ratios": ratios_table,
        "quality slices": slices_table,
    }
    for name, table in tables.items():
        begin = BEGIN.format(name)
        end = END.format(name)
        if begin in text and end in text:
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}\n{table(found)}\n{end}{rest.split(end, 1)[1]}"
    return text


def figures_table(found: Mapping[str, Any]) -> str:
    """Recall@50 by contender and case, ± half of the interval, the best of a case in bold; first of
    the lists that count, then of the others.
    """
    tables = [_figures(found["figures"], counts=counts) for counts in (True, False)]
    between = "\n\nAnd of the lists that do not count on these logs:\n\n"
    return between.join(tables)


def _figures(rows: Sequence[Row], *, counts: bool) -> str:
    rows = [row for row in rows if row["counts"] == counts]
    cases = {row["case"]: row["kind"] for row in rows}
    names = list(dict.fromkeys(row["contender"] for row in rows))
    cells = {(row["case"], row["contender"]): row for row in rows}
    best = {case: max(r[HEADLINE] for r in rows if r["case"] == case) for case in cases}
    heads = [f"{case}, seen {kind}" for case, kind in cases.items()]
    lines = [f"| recall@50 | {' | '.join(heads)} |", f"|---|{'--:|' * len(cases)}"]
    for name in names:
        of_name = [_cell(cells.get((case, name)), best[case]) for case in cases]
        lines.append(f"| {name} | {' | '.join(of_name)} |")
    asked = [next(r for r in rows if r["case"] == case) for case in cases]
    counted = [f"{row['queries']:,} of {row['users']:,}; {row['days']}" for row in asked]
    lines.append(f"| queries, of users; days | {' | '.join(counted)} |")
    return "\n".join(lines)


def _cell(row: Row | None, best: float) -> str:
    if row is None:
        return ""
    text = f"{row[HEADLINE]:.3f}"
    if row["low"] is not None:
        text += f" ± {(row['high'] - row['low']) / 2:.3f}"
    if row[HEADLINE] == best:
        text = f"**{text}**"
    return text + ("*" if row["trained"] == "weekly" else "")


def ratios_table(found: Mapping[str, Any]) -> str:
    """What is served over the best peer, and in how many slices of users it is surely below."""
    rows = [row for row in found["ratios"] if row["above"] == OURS]
    recall = {(r["case"], r["kind"], r["contender"]): r[HEADLINE] for r in found["figures"]}
    lines = [
        "| case | served | best peer, chosen on earlier days | its | ratio, 95% interval | aim | |",
        "|---|--:|---|--:|--:|--:|---|",
    ]
    for row in rows:
        if row["users"] != ALL or not _is_shown(row):
            continue
        key = row["case"], row["kind"]
        lines.append(
            f"| {row['case']}, seen {row['kind']} | {recall[*key, OURS]:.3f} | {row['below']} |"
            f" {recall[*key, row['below']]:.3f} | {_ratio(row)} | {row['aim']:.2f} |"
            f" {row['verdict']} |"
        )
    slices = _slices(found)
    below = [row for row in slices if row["verdict"].startswith("MISSED")]
    lines += [
        "",
        f"Of {len(slices)} slices of users by earlier events, newcomers included, what is served is surely"
        f" below the best peer in {len(below)}.",
    ]
    return "\n".join(lines)


def slices_table(found: Mapping[str, Any]) -> str:
    """What is served over the best peer, by users' earlier events."""
    lines = [
        "| case | users | queries | best peer | ratio, 95% interval | |",
        "|---|---|--:|---|--:|---|",
    ]
    lines += [
        f"| {row['case']}, seen {row['kind']} | {row['users']} | {row['queries']:,} | {row['below']} |"
        f" {_ratio(row)} | {row['verdict']} |"
        for row in _slices(found)
    ]
    return "\n".join(lines)


def _slices(found: Mapping[str, Any]) -> list[Row]:
    """Ratios of slices with users enough, of the lists that are shown."""
    return [
        row
        for row in found["ratios"]
        if row["above"] == OURS
        and row["users"] != ALL
        and row["queries"] >= FEWEST
        and _is_shown(row)
    ]


def _is_shown(row: Row) -> bool:
    """Of films both kinds of lists are targets; elsewhere those that count."""
    return bool(row["counts"]) or row["case"].startswith("ml-")


def _ratio(row: Row) -> str:
    spread = "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{row['found']:.3f}{spread}"
