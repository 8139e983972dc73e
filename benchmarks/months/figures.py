"""From what was found to figures: recall by day of training, and how a line that goes on stands
beside towers trained anew.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from benchmarks.months.chains import Found
from twinspire_core.metrics.bootstrap import interval, resampled_means

RESAMPLES = 2000
_SHOWN = 50
"""Every how many days the page has a line."""
ANEW = "anew"
ALL = "all"
BEGIN = "<!-- months: begin -->"
END = "<!-- months: end -->"

ByDay = Mapping[date, Sequence[Found]]
"""What a way found, by day of training: one for each seed."""


def rows(found: Mapping[str, ByDay], start: date) -> list[dict[str, Any]]:
    """A row per way and day: its recall, and its ratio to training anew with a 95% interval.

    Args:
      found: by way.
      start: the day that all lines start from, on which they are alike.

    Returns: `way`, `days` since the start (`all` for all days together that have both), `recall`,
      and, beside training anew, `anew`, `ratio`, `low`, `high`, `seeds`.
    """
    made = []
    for way, by_day in found.items():
        days = sorted(day for day in by_day if day > start or way == ANEW)
        made += [
            {"way": way, "days": (day - start).days, **_figures([by_day[day]], None)}
            for day in days
            if way == ANEW or day not in found[ANEW]
        ]
        if way == ANEW:
            continue
        paired = [day for day in days if day in found[ANEW]]
        for name, chosen in [*(((day - start).days, [day]) for day in paired), (ALL, paired)]:
            if chosen:
                ours = [by_day[day] for day in chosen]
                theirs = [found[ANEW][day] for day in chosen]
                made.append({"way": way, "days": name, **_figures(ours, theirs)})
    return made


def _figures(
    ours: Sequence[Sequence[Found]], theirs: Sequence[Sequence[Found]] | None
) -> dict[str, Any]:
    """Recall over some days, and beside others: users are resampled, with all their queries."""
    if theirs is None:
        recall = np.concatenate([_mean_of_seeds(found, found) for found in ours])
        return {"recall": _short(float(np.nanmean(recall))), "seeds": min(map(len, ours))}
    pairs = list(zip(ours, theirs, strict=True))
    values = {
        "ours": np.concatenate([_mean_of_seeds(a, b) for a, b in pairs]),
        "theirs": np.concatenate([_mean_of_seeds(b, a) for a, b in pairs]),
    }
    users = np.concatenate([a[0].user for a, _ in pairs])
    user = np.unique(users, return_inverse=True)[1]
    drawn = resampled_means(values, user.astype(np.int64), RESAMPLES)
    span = interval(drawn["ours"] / drawn["theirs"])
    assert span is not None, "there are queries"
    mean = {name: float(np.nanmean(x)) for name, x in values.items()}
    return {
        "recall": _short(mean["ours"]),
        "anew": _short(mean["theirs"]),
        "ratio": _short(mean["ours"] / mean["theirs"]),
        "low": _short(span[0]),
        "high": _short(span[1]),
        "seeds": min(min(len(a), len(b)) for a, b in pairs),
    }


def _mean_of_seeds(found: Sequence[Found], others: Sequence[Found]) -> np.ndarray:
    """[Q] mean over the seeds that both have."""
    mean: np.ndarray = np.mean([one.recall for one in found[: len(others)]], axis=0)
    return mean


def table(made: Sequence[Mapping[str, Any]], ways: Sequence[str]) -> str:
    """The figures in Markdown: a line for each 50th day, for each way its recall and its ratio."""
    of = {(row["way"], row["days"]): row for row in made}
    days = sorted({row["days"] for row in made if row["days"] != ALL and row["days"] % _SHOWN == 0})
    head = ["days", ANEW]
    for way in ways:
        head += [f"`{way}`", "to anew"]
    lines = [_line(head), _line(["---"] * len(head))]
    for day in [*days, ALL]:
        anew = next((of[way, day].get("anew") for way in ways if (way, day) in of), None)
        if (ANEW, day) in of:
            anew = of[ANEW, day]["recall"]
        cells = [f"{day}", _cell(anew)]
        for way in ways:
            row = of.get((way, day), {})
            cells += [_cell(row.get("recall")), _ratio(row)]
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(recall: float | None) -> str:
    return "" if recall is None else f"{recall:.4f}"


def _ratio(row: Mapping[str, Any]) -> str:
    if "ratio" not in row:
        return ""
    return f"{row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def verdict(made: Sequence[Mapping[str, Any]], way: str) -> str:
    """Whether a way is anywhere behind by more than the interval, in one sentence."""
    by_day = [row for row in made if row["way"] == way and "ratio" in row and row["days"] != ALL]
    behind = [f"{row['days']}" for row in by_day if row["high"] < 1]
    if not by_day:
        return f"{way}: not yet measured beside training anew"
    if not behind:
        return f"{way}: on none of {len(by_day)} days behind by more than the interval"
    return f"{way}: behind by more than the interval after {', '.join(behind)} days"


def _short(x: float) -> float:
    return float(f"{x:.5g}")
