"""Which types of events are read, and which enter histories."""

from collections.abc import Sequence

import polars as pl

from twinspire_core.config.pipeline import Pipeline


def relevant_types(p: Pipeline) -> set[str]:
    """Event types that are used at all; empty when all are."""
    if not p.columns.positives:
        return set()
    return {*p.columns.positives, *history_types(p)}


def history_types(p: Pipeline) -> tuple[str, ...]:
    """Event types that enter histories: the positives, if the history does not list its own; empty
    when all do.
    """
    own = p.history.types if p.history else ()
    return own or p.columns.positives


def of_type(types: Sequence[str]) -> pl.Expr:
    """Whether an event is of one of these types; of none, whether it is of any."""
    if not types:
        return pl.lit(True)
    return pl.col("_type").is_in(types).fill_null(False)
