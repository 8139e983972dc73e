"""Which column says what an event is, and which of its types recommendations should lead to.

A type is a word, such as `purchase`; a flag, such as 1 of `clicked`; or a rating.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import polars as pl

from beam_jobs.ingest.columns import as_string
from beam_jobs.ingest.timestamps import forms_of, in_form
from beam_jobs.scaffold import column_names, feature_draft
from beam_jobs.scaffold.relations import determines

_MOST_TYPES = 20
_FLAGS = ({"0", "1"}, {"false", "true"})
# Least number of events of a type that follow a purchase, and their share, to be no chance.
_ENOUGH_EVENTS, _NEARLY_ALL = 20, 0.9


class MaybeTypes(NamedTuple):
    """A column that may say what an event is.

    Attributes:
      strength: how much its name speaks for it, from 0 to 3.
      score: how much its name and its values speak for it; below 0 if only a person can tell.
    """

    column: str
    strength: int
    score: float


def candidates(rows: pl.DataFrame, columns: Iterable[str]) -> list[MaybeTypes]:
    """Columns of few values that have the name of an event type, or hold words such as `buy`, flags or ratings.
    Other words that no column determines may be types in any language.

    Args:
      rows: a sample of events.
      columns: those that have no other role.
    """
    return [one for column in columns if (one := _candidate(rows, column))]


def _candidate(rows: pl.DataFrame, column: str) -> MaybeTypes | None:
    values = rows[column].drop_nulls()
    strength = column_names.strength(column, "event")
    if feature_draft.is_category(rows[column]) and values.dtype != pl.Boolean:
        words = values.unique().cast(pl.String).to_list()
        likeness = column_names.likeness_to_events(words)
        # Under another name, a column has to hold both words for looking and words for taking.
        if strength >= column_names.CLEAR or (strength and likeness) or likeness == 2:
            return MaybeTypes(column, strength, strength + 3.0 * likeness)
    if values.dtype.is_nested() or not 1 < values.n_unique() <= _MOST_TYPES:
        return None
    if _is_flag(column, values):
        score = 2.0
    elif column_names.is_rating(column) and values.dtype.is_numeric():
        score = 1.0
    elif _are_words(values) and not column_names.describes(column):
        score = -1.0
    else:
        return None
    # What another column determines is no event: the mean rating of an item, a user's plan.
    others = [name for name in rows.columns if not rows[name].dtype.is_nested()]
    finer = (name for name in others if rows[name].n_unique() > values.n_unique())
    return None if any(determines(rows, n, column) for n in finer) else MaybeTypes(column, 0, score)


def _are_words(values: pl.Series) -> bool:
    return values.dtype == pl.String and values.unique().str.contains(r"^[\pL _-]{2,}$").all()


def _is_flag(column: str, values: pl.Series) -> bool:
    """Whether a column says yes or no of an act, as `clicked` and `skipped` do."""
    return (
        column_names.is_act(column) and set(_as_text(values)) <= _FLAGS[values.dtype == pl.Boolean]
    )


def _as_text(values: pl.Series) -> pl.Series:
    """The values as the pipeline file names them."""
    return values.to_frame().select(as_string(pl.col(values.name), values.dtype)).to_series()


def lines(rows: pl.DataFrame, event: str, keys: Mapping[column_names.Role, str]) -> Iterator[str]:
    """Lines of `[columns]` on the types that recommendations should lead to, and why others are left out.

    Args:
      rows: a sample of events.
      event: column of the type.
      keys: columns by role: `user`, `item` and `time`.
    """
    yield f"event = {_quoted(event)}"
    values = rows[event].drop_nulls()
    if column_names.is_rating(event) and values.dtype.is_numeric():
        yield from _ratings(values)
        return
    if _is_flag(event, values):
        wanted = sorted(_FLAGS[values.dtype == pl.Boolean])[not column_names.gives_back(event)]
        yield f"positives = [{_quoted(wanted)}]"
        return
    counts = _as_text(values).value_counts().sort("count", event)
    left_out = _left_out(rows, event, [*counts[event]], keys)
    wanted_types = sorted(set(counts[event]) - set(left_out))
    reasons = "".join(f"; {_quoted(kind)}: {reason}" for kind, reason in left_out.items())
    listed = ", ".join(map(_quoted, wanted_types))
    yield f"positives = [{listed}]  # keep those that recommendations should lead to{reasons}"
    if bought := next((kind for kind in counts[event] if column_names.buys(kind)), None):
        yield f"# weights = {{ {_quoted(bought)} = 3.0 }}  # how much more than another event it counts"


def _ratings(values: pl.Series) -> Iterator[str]:
    low, high = min(1.0, float(values.min())), float(values.max())  # type: ignore[arg-type]
    middle = (low + high) / 2
    liked = _as_text(values.unique().sort().filter(values.unique().sort() > middle))
    listed = ", ".join(map(_quoted, liked))
    yield f"positives = [{listed}]  # ratings above the middle of the scale, {middle:g}"


def _left_out(
    rows: pl.DataFrame, event: str, types: list[str], keys: Mapping[column_names.Role, str]
) -> dict[str, str]:
    """Types that recommendations should not lead to, with the reason."""
    reasons = {kind: "given back or rejected" for kind in types if column_names.gives_back(kind)}
    reasons |= {kind: "shown, not chosen" for kind in types if column_names.shows(kind)}
    bought = [kind for kind in types if column_names.buys(kind)]
    if bought:
        others = [kind for kind in types if kind not in bought and kind not in reasons]
        after = _that_follow(rows, event, bought, keys)
        reasons |= {kind: "follows a purchase of the same item" for kind in others if kind in after}
    # A log of returns alone is somebody's wish.
    return reasons if len(reasons) < len(types) else {}


def _that_follow(
    rows: pl.DataFrame, event: str, bought: list[str], keys: Mapping[column_names.Role, str]
) -> set[str]:
    """Types of which nearly all events come after a purchase of the same item by the same user."""
    form = next(iter(forms_of(rows[keys["time"]])), None)
    if form is None:
        return set()
    events = rows.select(
        pl.col(keys["user"]).alias("user"),
        pl.col(keys["item"]).alias("item"),
        in_form(rows[keys["time"]], form).alias("time"),
        _as_text(rows[event]).alias("type"),
    ).drop_nulls()
    first = (
        events.filter(pl.col("type").is_in(bought))
        .group_by("user", "item")
        .agg(pl.col("time").min().alias("bought"))
    )
    follows = (
        events.join(first, on=["user", "item"], how="left")
        .group_by("type")
        .agg(
            pl.len(),
            (pl.col("time") > pl.col("bought")).fill_null(value=False).mean().alias("share"),
        )
    )
    sure = (pl.col("len") >= _ENOUGH_EVENTS) & (pl.col("share") >= _NEARLY_ALL)
    return set(follows.filter(sure)["type"])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
