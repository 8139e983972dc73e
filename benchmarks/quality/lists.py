"""Lists that need no training: what is popular, what was lately, what the user had before."""

import numpy as np
import polars as pl

from benchmarks.quality.prepare import Prepared
from benchmarks.quality.splits import Case
from twinspire_core.search.ragged import positions
from twinspire_core.sources.past import past_then
from twinspire_core.sources.popularity import same_for_all

LENGTH = 100
"""Items of a list."""


def popular(prepared: Prepared, case: Case) -> np.ndarray:
    """The most frequent items of the training days, the same for everybody; [Q, 100] positions."""
    return same_for_all(_order(prepared), len(prepared.queries(case)), LENGTH)


def popular_lately(prepared: Prepared, case: Case) -> np.ndarray:
    """The most frequent items of the last training day, then of all."""
    day = (
        pl.col("_time")
        .cast(pl.Datetime("us", "UTC"))
        .dt.convert_time_zone(str(prepared.pipeline.zone))
        .dt.date()
    )
    return same_for_all(
        _order(prepared, day == prepared.split.last), len(prepared.queries(case)), LENGTH
    )


def past(prepared: Prepared, case: Case) -> np.ndarray:
    """What the user had before, the most frequent first, then the most recent; then what is
    popular.
    """
    rows = prepared.queries(case).select(pl.int_range(pl.len()).alias("row"), "_before")
    items = rows.explode("_before").with_row_index("place").group_by("row", "_before")
    ranked = items.agg(pl.len().alias("n"), pl.col("place").max()).sort(
        "n", "place", descending=True
    )
    lists = ranked.group_by("row", maintain_order=True).agg("_before").sort("row")
    own = positions(lists["_before"].to_arrow(), prepared.corpus()["_item"].to_arrow())
    return past_then(own, _order(prepared), LENGTH)


def _order(prepared: Prepared, lately: pl.Expr | None = None) -> np.ndarray:
    """[C] positions of the catalogue by events, those of `lately` first."""
    events = prepared.interactions()
    corpus = prepared.corpus().select("_item")

    def counts(of: pl.DataFrame) -> np.ndarray:
        n = of.group_by("_item").len("n")
        return (
            corpus.join(n, on="_item", how="left", maintain_order="left")["n"]
            .fill_null(0)
            .cast(pl.Int64)
            .to_numpy()
        )

    ever = counts(events)
    return np.lexsort((-ever, -(counts(events.filter(lately)) if lately is not None else ever)))
