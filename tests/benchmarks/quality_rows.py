"""Events and queries of the quality benchmark's tests, written by hand."""

from datetime import UTC, datetime

import polars as pl


def micros(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1_000_000)


def frame(names: str, *rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=names.split(), orient="row")
