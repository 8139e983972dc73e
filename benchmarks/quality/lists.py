"""Lists that need no training: popular items, recently popular items, and purchase history; also popularity
and history with a half-life.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from benchmarks.quality.prepare import Prepared
from benchmarks.quality.splits import Case
from twinspire_core.search.ragged import positions
from twinspire_core.sources.popular_and_history import past_then, same_for_all

LENGTH = 600
"""Items of a contender's list. Enough remain for scoring after seen items are removed."""
_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
Settings = Mapping[str, Any]


def popular(prepared: Prepared, case: Case) -> np.ndarray:
    """The most frequent items of the training days, the same for all users; [Q, 600] positions."""
    return same_for_all(_order(prepared), len(prepared.queries(case)), LENGTH)


def popular_lately(prepared: Prepared, case: Case) -> np.ndarray:
    """The most frequent items of the last training day, then those of all days."""
    day = (
        pl.col("_time")
        .cast(pl.Datetime("us", "UTC"))
        .dt.convert_time_zone(str(prepared.pipeline.zone))
        .dt.date()
    )
    return same_for_all(
        _order(prepared, day == prepared.split.last), len(prepared.queries(case)), LENGTH
    )


def purchase_history(prepared: Prepared, case: Case) -> np.ndarray:
    """The user's items, the most frequent first, then the most recent; then popular items."""
    rows = prepared.queries(case).select(pl.int_range(pl.len()).alias("row"), "_before")
    items = rows.explode("_before").with_row_index("place").group_by("row", "_before")
    ranked = items.agg(pl.len().alias("n"), pl.col("place").max()).sort(
        "n", "place", descending=True
    )
    lists = ranked.group_by("row", maintain_order=True).agg("_before")
    lists = rows.select("row").join(lists, on="row", how="left", maintain_order="left")
    history = positions(
        lists["_before"].fill_null([]).to_arrow(), prepared.corpus()["_item"].to_arrow()
    )
    return past_then(history, _order(prepared), LENGTH)


def popular_decayed(prepared: Prepared, case: Case, settings: Settings) -> np.ndarray:
    """Popular items as of each query's moment, with a half-life of `half_life` hours; 0 is no decay.

    Queries as of an event know all events strictly before it, also those of other users on that day.
    """
    asked = prepared.queries(case)
    catalogue = _places(prepared)
    log = prepared.log()
    if case.frozen:
        moment = int(asked["_moment"].max() or 0)
        order = np.argsort(
            -_decayed(log, catalogue, moment, settings["half_life"] * _HOUR), kind="stable"
        )
        return same_for_all(order, len(asked), LENGTH)
    events = pl.concat([log, prepared.asked()])
    return _as_of_moments(
        events, catalogue, asked["_moment"].to_numpy(), settings["half_life"] * _HOUR
    )


def personal_decayed(prepared: Prepared, case: Case, settings: Settings) -> np.ndarray:
    """The user's items with a half-life of `half_life` days; then popular items with a half-life of
    `fill_half_life` days. 0 is no decay.
    """
    asked = prepared.queries(case).with_row_index("row")
    events = asked.select("row", "_moment", "_history", "_history_times").explode(
        "_history", "_history_times"
    )
    age = pl.col("_moment") - pl.col("_history_times")
    events = events.with_columns(_weight(age, settings["half_life"] * _DAY))
    ranked = (
        events.group_by("row", "_history")
        .agg(pl.col("weight").sum(), pl.col("_history_times").max())
        .sort("row", "weight", "_history_times", "_history", descending=[False, True, True, False])
    )
    history = ranked.group_by("row", maintain_order=True).agg(pl.col("_history").drop_nulls())
    history = asked.select("row").join(history, on="row", how="left", maintain_order="left")
    lists = positions(
        history["_history"].fill_null([]).to_arrow(), prepared.corpus()["_item"].to_arrow()
    )
    end = int(prepared.log()["_time"].max() or 0)
    counts = _decayed(prepared.log(), _places(prepared), end, settings["fill_half_life"] * _DAY)
    return past_then(lists, np.argsort(-counts, kind="stable"), LENGTH)


def _weight(age: pl.Expr, half_life: float) -> pl.Expr:
    halvings = age / half_life if half_life else age * 0.0
    return pl.lit(0.5).pow(halvings).alias("weight")


def _places(prepared: Prepared) -> pl.DataFrame:
    """The items of the catalogue (`_item`) and their positions (`place`)."""
    return prepared.corpus().select("_item", pl.int_range(pl.len()).alias("place"))


def _decayed(
    events: pl.DataFrame, catalogue: pl.DataFrame, moment: int, half_life: float
) -> np.ndarray:
    """[C] float64, decayed counts of the catalogue as of a moment after all events."""
    listed = events.join(catalogue, on="_item")
    weight = listed.select(_weight(moment - pl.col("_time"), half_life))["weight"]
    return np.bincount(listed["place"], weight, len(catalogue))


def _as_of_moments(
    events: pl.DataFrame, catalogue: pl.DataFrame, moments: np.ndarray, half_life: float
) -> np.ndarray:
    """[Q, 600] the items with the largest decayed counts as of each moment, [Q] microseconds."""
    listed = events.join(catalogue, on="_item").sort("_time")
    time = listed["_time"].to_numpy()
    item = listed["place"].to_numpy()
    wanted, query = np.unique(moments, return_inverse=True)
    known = np.searchsorted(time, wanted)  # strictly before
    n = min(LENGTH, len(catalogue))
    ranked = np.full((len(wanted), LENGTH), -1, np.int64)
    counts = np.zeros(len(catalogue))
    before = 0
    for number, (moment, until) in enumerate(zip(wanted, known, strict=True)):
        age = moment - time[before:until]
        if half_life:
            counts *= 0.5 ** ((moment - wanted[max(number - 1, 0)]) / half_life)
            counts += np.bincount(item[before:until], 0.5 ** (age / half_life), len(catalogue))
        else:
            counts += np.bincount(item[before:until], minlength=len(catalogue))
        before = until
        ranked[number, :n] = _largest(counts, n)
    return ranked[query]


def _largest(values: np.ndarray, n: int) -> np.ndarray:
    """Positions of the n largest values, largest first; of equal values the first ones."""
    least = np.partition(values, len(values) - n)[len(values) - n]
    candidates = np.flatnonzero(values >= least)
    return candidates[np.argsort(-values[candidates], kind="stable")[:n]]


def _order(prepared: Prepared, lately: pl.Expr | None = None) -> np.ndarray:
    """[C] positions of the catalogue by number of events, items with events in `lately` first."""
    events = prepared.log()
    corpus = prepared.corpus().select("_item")

    def counts(rows: pl.DataFrame) -> np.ndarray:
        n = rows.group_by("_item").len("n")
        return (
            corpus.join(n, on="_item", how="left", maintain_order="left")["n"]
            .fill_null(0)
            .cast(pl.Int64)
            .to_numpy()
        )

    ever = counts(events)
    return np.lexsort((-ever, -(counts(events.filter(lately)) if lately is not None else ever)))
