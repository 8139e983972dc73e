"""How columns of a log depend on each other: an item determines its title, an episode its show."""

import polars as pl

ENOUGH_ROWS = 50
"""Rows from which values that repeat, or that do not, are no chance."""
TOLD_APART = 0.95
# An item may be corrected once, or be of a renamed category.
_AGREEMENT = 0.9


def same(rows: pl.DataFrame, a: str, b: str) -> bool:
    """Whether two columns tell the same rows apart, as an id and a name do."""
    pairs = rows.select(a, b).n_unique()
    return min(rows[a].n_unique(), rows[b].n_unique()) >= TOLD_APART * pairs


def determines(rows: pl.DataFrame, column: str, other: str) -> bool:
    """Whether rows with the same value of a column have the same value of another one, where that is no chance:
    by Cohen's kappa of two rows, https://doi.org/10.1177/001316446002000104.
    """
    known = rows.select(pl.col(column).alias("key"), pl.col(other).alias("value")).drop_nulls()
    repeated = known.filter(pl.col("key").is_duplicated())
    if len(repeated) < ENOUGH_ROWS:
        return False
    sizes = repeated.group_by("key").len("rows")
    alike = repeated.group_by("key", "value").len("alike").join(sizes, on="key")
    agree = float(
        alike.select((pl.col("alike") * (pl.col("alike") - 1) / (pl.col("rows") - 1)).sum()).item()
    )
    agree /= len(repeated)
    chance = float((repeated["value"].value_counts(normalize=True)["proportion"] ** 2).sum())
    return chance < 1 and (agree - chance) / (1 - chance) >= _AGREEMENT


def is_finer(rows: pl.DataFrame, column: str, other: str, user: str | None) -> bool:
    """Whether a column has more values than another one and determines it, and most of its values that come
    again are of different users: a session or an order is of one.
    """
    known = rows.drop_nulls([column, other])
    values = known[column].n_unique()
    if values <= known[other].n_unique() / TOLD_APART:
        return False
    if values < TOLD_APART * known.select(column, other).n_unique() or user in (None, column):
        return False
    again = known.filter(pl.col(column).is_duplicated())
    users = again.group_by(column).agg(pl.col(user).n_unique())[user]
    return 2 * len(users) > values and 2 * int((users > 1).sum()) > len(users)
