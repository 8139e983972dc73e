"""Features of a candidate itself: how often and since when it is taken; and of its category, brand or other
declared attribute: what the user takes of its value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.contracts.feature_schema import (
    AGAIN,
    AGAIN_DAYS,
    BUYERS,
    FIRST_SEEN,
    TRENDING_HALF_LIVES,
    attribute_name,
)
from twinspire_core.display.table import ago, counted, times
from twinspire_core.native_code import compiled
from twinspire_core.ranking.pairs import Feature, FeatureGroup, Pairs
from twinspire_core.search.ragged import (
    is_list,
    list_lengths,
    list_offsets,
    list_places,
    list_rows,
    value_type,
)
from twinspire_core.sources.source import SourceTables
from twinspire_core.sources.user_histories import AGE, DAYS, HALF_LIFE, SPAN

_TRENDING = [column.removeprefix("_trending_") for column in TRENDING_HALF_LIVES]
# Columns in the order of the features.
_COUNTS = ("_popular", "_lately", BUYERS, *TRENDING_HALF_LIVES)
_AS_THEY_ARE = (FIRST_SEEN, AGAIN, AGAIN_DAYS)
_FAST = "_trending_7d"
_SLOW = "_trending_28d"
# Ratio of the two counts for an item that is taken equally often every day.
_RATIO = TRENDING_HALF_LIVES[_SLOW] / TRENDING_HALF_LIVES[_FAST]
# Trends below a fifth up or down are described as none.
_STEADY = 0.2


def _trend_text(value: float) -> str:
    if abs(value) < _STEADY:
        return "bought as often as before"
    return "bought more often lately" if value > 0 else "bought less often lately"


def _age_text(value: float) -> str:
    # The logs may begin after the item's first event.
    if value < 2:
        return f"new: first bought {ago(24 * value, 'hour')}"
    return f"first bought {ago(value)} or earlier"


def _of_item(words: Callable[[float], str], unknown: str = "popularity unknown") -> Feature:
    return Feature(words, unknown)


def _by_half_life(name: str) -> Feature:
    return _of_item(lambda x: f"bought {np.expm1(x):,.1f} times by all users, half-life {name}")


_OF_ITEM = {
    "popular": _of_item(lambda x: f"bought {times(np.expm1(x))} by all users"),
    "lately": _of_item(lambda x: f"bought {times(np.expm1(x))} by all users lately"),
    "buyers": _of_item(lambda x: f"bought by {counted(np.expm1(x), 'user')}"),
    **{f"trending:{name}": _by_half_life(name) for name in _TRENDING},
    "trend": _of_item(_trend_text),
    "first_seen": _of_item(_age_text, "not bought by any user yet"),
    "again": _of_item(lambda x: f"{x:.0%} of its events are by users who bought it before"),
    "again_days": _of_item(lambda x: f"usually bought again after {counted(x, 'day')}"),
}


@dataclass(frozen=True)
class Item(FeatureGroup):
    """Counts are logarithms, so that a ratio is a difference.

    Attributes:
      table: [C, F] float32, NaN where the corpus lacks a count, and for items that nobody took.
    """

    table: np.ndarray

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """From those columns that the corpus has."""
        corpus = tables.corpus
        logs = [np.log1p(_column(corpus, name, missing=0)) for name in _COUNTS]
        # One event is added, so that a single one is no trend. 0 stands for no change, or no event.
        fast, slow = (_column(corpus, name, missing=0) for name in (_FAST, _SLOW))
        trend = np.log1p(_RATIO * fast) - np.log1p(slow)
        plain = [_column(corpus, name, missing=np.nan) for name in _AS_THEY_ARE]
        return cls(np.stack([*logs, trend, *plain], axis=1).astype(np.float32))

    def features(self, sources: Sequence[str]) -> Mapping[str, Feature]:
        """Counts by window and by half-life, users, the trend; days since the first event; the share of
        users' days with it that were not the first, and the mean days to these.
        """
        return _OF_ITEM

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """The candidates' rows of the table."""
        values[:] = self.table.take(pairs.item, axis=0).T


def _column(corpus: pa.Table, name: str, *, missing: float) -> np.ndarray:
    """[C], NaN where the corpus lacks the column."""
    if name not in corpus.column_names:
        return np.full(len(corpus), np.nan)
    return np.asarray(corpus.column(name).cast(pa.float64()).fill_null(missing).to_numpy())


def _features_of(attribute: str) -> dict[str, Feature]:
    """The features of an attribute, in the order in which they are written."""
    unknown = f"{attribute} unknown, or never taken"
    never = f"the user never took an item with this {attribute}, or the time is unknown"
    with_this = f"with this {attribute}"

    def of_user(words: Callable[[float], str], unknown: str = unknown) -> Feature:
        return Feature(words, unknown, needs_times=True)

    features = {
        "share": of_user(
            lambda x: f"{x:.0%} of the user's items have this {attribute}", f"{attribute} unknown"
        ),
        "age": of_user(lambda x: f"the user took an item {with_this} {ago(x)}", never),
        "count": of_user(lambda x: f"the user took {x:.1f} items {with_this}, half-life 60d"),
        "days": of_user(lambda x: f"the user took items {with_this} on {counted(x, 'day')}"),
        "overdue": of_user(
            lambda x: f"{x:.0%} of the user's usual time between items {with_this} has passed"
        ),
        "own": of_user(lambda x: f"{x:.0%} of the user's events {with_this}"),
        "popular": Feature(lambda x: f"{x:.1%} of all users' events {with_this}", unknown),
    }
    return {f"attribute_{name}:{attribute}": feature for name, feature in features.items()}


# Where an attribute is a list, the first values of an item are looked at, at most so many.
_MOST_VALUES = 8


class _Attribute(NamedTuple):
    """One declared attribute.

    Attributes:
      name: the column of the items snapshot.
      codes: [C, W] int32, the numbers of an item's values, each once, -1 for none.
      values: how many different values there are.
      popular: [C] float32, the item's share in the events of its value; NaN without a value.
    """

    name: str
    codes: np.ndarray
    values: int
    popular: np.ndarray

    @classmethod
    def of(cls, name: str, column: pa.ChunkedArray, events: np.ndarray) -> Self:
        """Gives each distinct value a number.

        Args:
          name: the column of the items snapshot.
          column: [C] strings, numbers or truth values, or lists of them; null and "" are missing.
          events: [C] int64, number of events of each item.
        """
        column = column.combine_chunks()
        lengths, values = np.ones(len(column), np.int64), column
        if is_list(column.type):
            lengths, values = list_lengths(column), column.flatten()
        row = list_rows(lengths)
        place = list_places(lengths)
        coded = pc.dictionary_encode(values.cast(pa.string()))
        code = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        empty = pc.index(coded.dictionary, "").as_py()
        code[code == empty] = -1
        width = min(_MOST_VALUES, max(1, int(lengths.max(initial=1))))
        codes = np.full((len(column), width), -1, np.int32)
        is_value = (place < width) & (code >= 0)
        codes[row[is_value], place[is_value]] = code[is_value]
        # An item that has a value twice counts once for it.
        for number in range(1, width):
            is_repeat = (codes[:, :number] == codes[:, [number]]).any(axis=1)
            codes[is_repeat, number] = -1
        count = len(coded.dictionary)
        return cls(name, codes, count, _largest_shares(codes, count, events))


@dataclass(frozen=True)
class Attributes(FeatureGroup):
    """Attributes that the pipeline file declares (`corpus.attributes`). For an item with several values the
    one that the user knows best counts.
    """

    attributes: tuple[_Attribute, ...]

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """None where no attribute is declared, or all hold nested values, by which requests cannot filter
        either.
        """
        prefix = attribute_name("")
        corpus = tables.corpus
        names = [
            field.name
            for field in corpus.schema
            if field.name.startswith(prefix) and not pa.types.is_nested(value_type(field.type))
        ]
        if not names:
            return None
        events = corpus.column("_popular").fill_null(0).to_numpy()
        return cls(
            tuple(
                _Attribute.of(name.removeprefix(prefix), corpus.column(name), events)
                for name in names
            )
        )

    def features(self, sources: Sequence[str]) -> Mapping[str, Feature]:
        """By attribute: the value's share in what the user takes, days since the user last took an item with
        it, how often that was, decayed, on how many days, counted by item, and whether it is due again by
        these; the item's share in that, and in what everybody takes of the value.
        """
        return self._features

    @cached_property
    def _features(self) -> dict[str, Feature]:
        of_attributes = (_features_of(attribute.name) for attribute in self.attributes)
        return {name: x for features in of_attributes for name, x in features.items()}

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """Features of users are missing for items without a value; ages and whether it is due also for values
        that the user never took.
        """
        values[:] = np.nan
        taken = _taken(pairs)
        of_attributes = np.split(values, len(self.attributes))
        for attribute, rows in zip(self.attributes, of_attributes, strict=True):
            rows[-1] = attribute.popular[pairs.item]
            of_pairs = (pairs.query, pairs.item, attribute.codes, attribute.values)
            _compare(*taken, *of_pairs, rows)


def _taken(pairs: Pairs) -> tuple[np.ndarray, ...]:
    """The users' arrays that `_compare` reads."""
    personal = pairs.personal
    own_weights = np.zeros(len(pairs), np.float32)
    is_pair = pairs.past_pair >= 0
    own_weights[pairs.past_pair[is_pair]] = personal.of_entry[HALF_LIFE][is_pair]
    begin = list_offsets(personal.items.lengths)
    of_entry = (personal.of_entry[name] for name in (HALF_LIFE, AGE, SPAN, DAYS))
    return (
        begin,
        personal.items.values,
        *of_entry,
        np.maximum(pairs.past_totals, 1e-30),
        own_weights,
    )


@compiled
def _compare(
    begin: Any,
    taken: Any,
    weights: Any,
    ages: Any,
    spans: Any,
    days: Any,
    totals: Any,
    own: Any,
    query_of: Any,
    items: Any,
    codes: Any,
    values: Any,
    features: Any,
) -> None:
    """Writes what each pair's user took of the values of its item. `codes` are those of all items."""
    width = codes.shape[1]
    # These are indexed by value.
    sum_of = np.zeros(values, np.float64)
    days_of = np.zeros(values, np.float64)
    overdue_of = np.full(values, -1.0)
    age_of = np.full(values, np.inf, np.float32)
    first_of = np.zeros(values, np.float32)
    nothing = np.float32(np.nan)
    pair = 0
    for query in range(len(begin) - 1):
        entries = range(begin[query], begin[query + 1])
        for entry in entries:
            if taken[entry] < 0:
                continue
            for place in range(width):
                code = codes[taken[entry], place]
                if code < 0:
                    continue
                sum_of[code] += weights[entry]
                age_of[code] = min(age_of[code], ages[entry])
                days_of[code] += days[entry]
                first_of[code] = max(first_of[code], ages[entry] + spans[entry])
                if days_of[code] > 1:
                    interval = np.float64(first_of[code] - age_of[code]) / (days_of[code] - 1)
                    overdue_of[code] = age_of[code] / max(interval, 1.0)
        while pair < len(items) and query_of[pair] == query:
            most, most_days, overdue = -1.0, -1.0, -1.0
            youngest = np.float32(np.inf)
            for place in range(width):
                code = codes[items[pair], place]
                if code < 0:
                    continue
                most = max(most, sum_of[code])
                youngest = min(youngest, age_of[code])
                most_days = max(most_days, days_of[code])
                overdue = max(overdue, overdue_of[code])
            if most >= 0:
                of_value = np.float32(most)
                features[0, pair] = of_value / totals[query]
                features[1, pair] = youngest if youngest < np.inf else nothing
                features[2, pair] = of_value
                features[3, pair] = np.float32(most_days)
                features[4, pair] = np.float32(overdue) if overdue >= 0 else nothing
                features[5, pair] = own[pair] / max(of_value, np.float32(1e-30))
            pair += 1
        for entry in entries:
            for place in range(width):
                if taken[entry] >= 0 and codes[taken[entry], place] >= 0:
                    code = codes[taken[entry], place]
                    sum_of[code] = days_of[code] = first_of[code] = 0
                    overdue_of[code] = -1
                    age_of[code] = np.inf


def _largest_shares(codes: np.ndarray, count: int, events: np.ndarray) -> np.ndarray:
    """Each item's largest share in the events of one of its values, [C] float32, NaN without a value."""
    is_value = codes >= 0
    weights = np.broadcast_to(events[:, np.newaxis], codes.shape)
    sums = np.bincount(codes[is_value], weights=weights[is_value], minlength=count)
    shares = np.full(codes.shape, np.nan)
    shares[is_value] = weights[is_value] / np.maximum(sums[codes[is_value]], 1)
    return np.asarray(np.fmax.reduce(shares, axis=1), np.float32)
