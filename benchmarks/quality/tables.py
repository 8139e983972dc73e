"""The tables of README.md and docs/measurements.md, as results.json has their figures."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from benchmarks.quality.figures import HEADLINE
from benchmarks.quality.logs import CASES
from benchmarks.quality.targets import ALL, FEWEST, OURS, TWO_TOWERS, WITH_EVENTS

BEGIN = "<!-- {}: begin -->"
END = "<!-- {}: end -->"
ORDER = {case: place for place, case in enumerate(CASES)}
IN_SHORT = {"groceries/next-day": "groceries", "small-shop/next-day": "small shop"}
"""The cases of README's table. News and films have no row until they are measured on days that nothing
was chosen on.
"""
FIGURE = ("case", "kind", "contender")
RATIO = ("case", "kind", "users", "above", "below")
"""What tells a figure, and a ratio, from all others."""
SERVED = {OURS: "", WITH_EVENTS: ", sent events"}
"""What is served, and how a row says that the server was sent what users took meanwhile."""
Row = Mapping[str, Any]


def with_tables(text: str, found: Mapping[str, Any]) -> str:
    """A page with the tables of results between its marks; what has no marks stays as it is."""
    tables = {
        "quality": figures_table,
        "quality in short": short_table,
        "quality ratios": ratios_table,
        "quality peers": peers_table,
        "quality two-towers": two_towers_table,
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
    """Recall@50 of the lists that count, by contender and case, ± half of the interval, the best of a
    case in bold.
    """
    rows = [row for row in found["figures"] if row["counts"]]
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
    recall = {tuple(r[name] for name in FIGURE): r[HEADLINE] for r in found["figures"]}
    lines = [
        "| case | served | best peer, chosen on earlier days | its | ratio, 95% interval | aim | |",
        "|---|--:|---|--:|--:|--:|---|",
    ]
    for case, kind, peer in _best(found):
        its = recall.get((case, kind, peer))
        for ours, how in SERVED.items():
            row = _ratios(found, ours).get((case, kind, peer))
            found_by_ours = recall.get((case, kind, ours))
            if found_by_ours is None or not _is_shown(case, kind, found):
                continue
            end = "not measured | | |"
            if row is not None:
                end = f"{_ratio(row)} | {row['aim']:.2f} | {row['verdict']} |"
            elif ours != OURS:
                continue
            elif its is not None:
                end = f"{found_by_ours / its:.3f}, not asked together | | |"
            lines.append(
                f"| {case}, seen {kind}{how} | {found_by_ours:.3f} | {peer} |"
                f" {'' if its is None else f'{its:.3f}'} | {end}"
            )
    slices = [row for row in _slices(found) if row["above"] == OURS]
    below = [row for row in slices if row["verdict"].startswith("MISSED")]
    lines += [
        "",
        f"Of {len(slices)} slices of users by earlier events, newcomers included, what is served is surely"
        f" below the best peer in {len(below)}.",
    ]
    return "\n".join(lines)


def short_table(found: Mapping[str, Any]) -> str:
    """README's rows: what is served against the best other method of each row, chosen with hindsight,
    which favours that method.
    """
    lines = [
        "| next day | ours | strongest other | its score | ours / its, 95% interval |",
        "|---|--:|---|--:|--:|",
    ]
    for case, measure in product(IN_SHORT, (HEADLINE, "ndcg@10")):
        rows = [r for r in found["figures"] if (r["case"], r["counts"]) == (case, True)]
        ours = next(r for r in rows if r["contender"] == OURS)
        others = (r for r in rows if not r["contender"].startswith("twinspire"))
        best = max(others, key=lambda r: r[measure])
        ratio = f"{ours[measure] / best[measure]:.3f}"
        if measure == HEADLINE and (
            row := _ratios(found, OURS).get((case, best["kind"], best["contender"]))
        ):
            ratio = _ratio(row)
        lines.append(
            f"| {IN_SHORT[case]}, {measure} | {ours[measure]:.3f} | {best['contender']} |"
            f" {best[measure]:.3f} | {ratio} |"
        )
    return "\n".join(lines)


def peers_table(found: Mapping[str, Any]) -> str:
    """What is served over each peer, of the lists that count."""
    recall = {tuple(r[name] for name in FIGURE): r for r in found["figures"]}
    ratios = _ratios(found, OURS)
    cases = {row["case"]: row["kind"] for row in found["figures"] if row["counts"]}
    names = dict.fromkeys(row["contender"] for row in found["figures"])
    lines = [
        f"| served / peer | {' | '.join(cases)} |",
        f"|---|{'--:|' * len(cases)}",
    ]
    for name in names:
        if name.startswith("twinspire"):
            continue
        cells = []
        for case, kind in cases.items():
            ours, its = recall.get((case, kind, OURS)), recall.get((case, kind, name))
            if row := ratios.get((case, kind, name)):
                cells.append(_ratio(row))
            elif ours and its:
                cells.append(f"{ours[HEADLINE] / its[HEADLINE]:.3f}, apart")
            else:
                cells.append("")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def two_towers_table(found: Mapping[str, Any]) -> str:
    """Two-towers of ours over TFRS's, of the lists that are shown."""
    ratios = {
        (row["case"], row["kind"], row["above"], row["below"]): _ratio(row)
        for row in found["ratios"]
        if row["users"] == ALL and _is_shown(row["case"], row["kind"], found)
    }
    pairs = [pair for pair in TWO_TOWERS if any(key[2:] == pair for key in ratios)]
    lines = [
        f"| case | {' | '.join(f'{above} / {below}' for above, below in pairs)} |",
        f"|---|{'--:|' * len(pairs)}",
    ]
    for case, kind in dict.fromkeys(key[:2] for key in ratios if key[2:] in pairs):
        cells = [ratios.get((case, kind, *pair), "") for pair in pairs]
        lines.append(f"| {case}, seen {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def slices_table(found: Mapping[str, Any]) -> str:
    """The slices of users by earlier events in which what is served is surely below the best peer."""
    lines = [
        "| case | users | queries | best peer | ratio, 95% interval |",
        "|---|---|--:|---|--:|",
    ]
    lines += [
        f"| {row['case']}, seen {row['kind']}{SERVED[row['above']]} | {row['users']} |"
        f" {row['queries']:,} | {row['below']} | {_ratio(row)} |"
        for row in _slices(found)
        if row["verdict"].startswith("MISSED")
    ]
    return "\n".join(lines)


def _best(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Case, kind of lists and peer of the best peers on earlier days."""
    rows = sorted(found["best_peers"], key=lambda row: (ORDER.get(row["case"], 0), row["kind"]))
    return [(row["case"], row["kind"], peer) for row in rows for peer in row["peers"]]


def _ratios(found: Mapping[str, Any], above: str) -> dict[tuple[str, str, str], Row]:
    """Ratios of all users by case, kind of lists and who is below."""
    return {
        (row["case"], row["kind"], row["below"]): row
        for row in found["ratios"]
        if row["above"] == above and row["users"] == ALL
    }


def _slices(found: Mapping[str, Any]) -> list[Row]:
    """Ratios of slices with users enough, of the lists that are shown, over the best peers."""
    best = _best(found)
    return [
        row
        for row in found["ratios"]
        if row["above"] in SERVED
        and row["users"] != ALL
        and row["queries"] >= FEWEST
        and (row["case"], row["kind"], row["below"]) in best
        and _is_shown(row["case"], row["kind"], found)
    ]


def _is_shown(case: str, kind: str, found: Mapping[str, Any]) -> bool:
    """Of films both kinds of lists are targets; elsewhere those that count."""
    counts = {(row["case"], row["kind"]) for row in found["figures"] if row["counts"]}
    return (case, kind) in counts or case.startswith("ml-")


def _ratio(row: Row) -> str:
    spread = "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{row['found']:.3f}{spread}"
