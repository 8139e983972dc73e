"""What the user takes of a candidate's category, brand or other declared attribute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.display.figures import ago, counted
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.search.ragged import (
    is_list,
    list_lengths,
    list_places,
    list_rows,
    value_type,
)
from twinspire_core.sources.source import SourceTables

_SHARE = "attribute_share:"
_AGE = "attribute_age:"
_COUNT = "attribute_count:"
_DAYS = "attribute_days:"
_OVERDUE = "attribute_overdue:"
_OWN = "attribute_own:"
_POPULAR = "attribute_popular:"
_OF_USERS = (_SHARE, _AGE, _COUNT, _DAYS, _OVERDUE, _OWN)
_FEATURES = (*_OF_USERS, _POPULAR)
_MOST_VALUES = 8
"""Values of an item that are looked at, the first ones, where an attribute is a list."""
_CELLS = 1 << 22
"""Queries times values that are added up in a table; of more, those alone that are met."""


class _Attribute(NamedTuple):
    """One declared attribute.

    Attributes:
      name: the column of the items snapshot.
      codes: [C, W] int64, the number of each value of an item, each once, -1 for none.
      values: V.
      popular: [C] float32, the item's share in the events of its value; NaN without one.
    """

    name: str
    codes: np.ndarray
    values: int
    popular: np.ndarray

    @classmethod
    def of(cls, name: str, column: pa.ChunkedArray, events: np.ndarray) -> Self:
        """Gives each distinct value a number.

        Args:
          name: as above.
          column: [C] strings, numbers or truth values, or lists of them; null and "" are missing.
          events: [C] int64.
        """
        column = column.combine_chunks()
        if is_list(column.type):
            lengths = list_lengths(column)
            values = column.flatten()
        else:
            lengths = np.ones(len(column), np.int64)
            values = column
        row = list_rows(lengths)
        place = list_places(lengths)
        coded = pc.dictionary_encode(values.cast(pa.string()))
        code = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        empty = pc.index(coded.dictionary, "").as_py()
        code[code == empty] = -1
        width = min(_MOST_VALUES, max(1, int(lengths.max(initial=1))))
        codes = np.full((len(column), width), -1, np.int64)
        kept = (place < width) & (code >= 0)
        codes[row[kept], place[kept]] = code[kept]
        # An item that has a value twice is still one item of it.
        for number in range(1, width):
            is_repeat = (codes[:, :number] == codes[:, [number]]).any(axis=1)
            codes[is_repeat, number] = -1
        count = len(coded.dictionary)
        return cls(name, codes, count, _largest(_shares(codes, count, events)))


@dataclass(frozen=True)
class Attributes(FeatureGroup):
    """Attributes that the pipeline file declares (`corpus.attributes`). Of an item with several
    values the one that the user knows best counts.

    Attributes:
      attributes: A of them.
    """

    attributes: tuple[_Attribute, ...]

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """None where none is declared, or those that are hold nested values, by which requests cannot
        filter either.
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

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """By attribute: the value's share in what the user takes, days since the user last took
        something of it, how often that was, decayed, on how many days, counted by item, and whether it is
        due again by these; the item's share in that; and in what everybody takes of it.
        """
        return tuple(prefix + one.name for one in self.attributes for prefix in _FEATURES)

    def goes_by_times(self, name: str) -> bool:
        """What goes by the user's counts."""
        return name.startswith(_OF_USERS)

    def values(self, pairs: Pairs) -> np.ndarray:
        """What users took is missing where queries bring no counts, and for items without a value; ages
        and whether it is due also for values that the user never took.
        """
        values = np.full((len(pairs), len(_FEATURES) * len(self.attributes)), np.nan, np.float32)
        for number, attribute in enumerate(self.attributes):
            first = len(_FEATURES) * number
            values[:, first + len(_OF_USERS)] = attribute.popular[pairs.item]
            if pairs.past is not None and pairs.past.weight is not None:
                values[:, first : first + len(_OF_USERS)] = _of_users(attribute, pairs)
        return values

    def describe(self, name: str, value: float) -> str:
        """By the attribute's name."""
        prefix, _, attribute = name.partition(":")
        if prefix + ":" == _SHARE:
            if np.isnan(value):
                return f"{attribute} not known"
            return f"{value:.0%} of what the user takes has this {attribute}"
        if prefix + ":" == _AGE:
            if np.isnan(value):
                return f"the user never took something of this {attribute}, or nobody knows when"
            return f"the user took something of this {attribute} {ago(value)}"
        if np.isnan(value):
            return f"{attribute} not known, or never taken"
        told = {
            _COUNT: f"the user took {value:.1f} things of this {attribute}, half-life 60d",
            _DAYS: f"the user took things of this {attribute} on {counted(value, 'day')}",
            _OVERDUE: f"{value:.0%} of the user's usual time for this {attribute} has gone by",
            _OWN: f"{value:.0%} of what the user takes of this {attribute}",
        }
        if prefix + ":" in told:
            return told[prefix + ":"]
        return f"{value:.1%} of what everybody takes of this {attribute}"


def _of_users(attribute: _Attribute, pairs: Pairs) -> np.ndarray:
    """[M, 6] float32, in the order of `_OF_USERS`."""
    past = pairs.past
    assert past is not None and past.weight is not None and past.total is not None
    # Codes are numbers from 0; the item -1 has none of them.
    entry = np.flatnonzero(past.item >= 0)
    taken = attribute.codes[past.item[entry]]
    wanted = attribute.codes[pairs.item]
    count = attribute.values
    if len(pairs.queries) * count > _CELLS:
        met, number = np.unique(np.append(taken.ravel(), wanted.ravel()), return_inverse=True)
        number = np.where(met[number] < 0, -1, number)
        taken, wanted = np.split(number, [taken.size])
        taken = taken.reshape(len(entry), -1)
        wanted = wanted.reshape(len(pairs), -1)
        count = len(met)
    cells = len(pairs.queries) * count
    sums, days = np.zeros(cells), np.zeros(cells)
    ages, firsts = np.full(cells, np.inf, np.float32), np.zeros(cells, np.float32)
    number = past.number[entry]
    age = past.counts.age[number]
    weight = past.weight[entry]
    cell_of = past.query[entry] * count
    is_measured = past.counts.days is not None and past.counts.span is not None
    for column in taken.T:
        is_value = column >= 0
        cell = (cell_of + column)[is_value]
        sums += np.bincount(cell, weights=weight[is_value], minlength=cells)
        np.minimum.at(ages, cell, age[is_value])
        if past.counts.days is not None and past.counts.span is not None:
            of_value = number[is_value]
            days += np.bincount(cell, weights=past.counts.days[of_value], minlength=cells)
            np.maximum.at(firsts, cell, age[is_value] + past.counts.span[of_value])
    cell = (pairs.query * count)[:, np.newaxis] + wanted
    # What has no value may read another one's cell, and is left out behind it.
    cell_sums = np.where(wanted >= 0, sums[cell], np.nan)
    found = np.full((len(pairs), len(_OF_USERS)), np.nan, np.float32)
    found[:, 2] = _largest(cell_sums)
    found[:, 0] = found[:, 2] / np.maximum(past.total, 1e-30)[pairs.query]
    oldest = np.where(wanted >= 0, ages[cell], np.inf).min(axis=1)
    found[:, 1] = np.where(np.isinf(oldest), np.nan, oldest)
    own = np.zeros(len(pairs), np.float32)
    is_pair = pairs.past_pair >= 0
    own[pairs.past_pair[is_pair]] = past.weight[is_pair]
    found[:, 5] = own / np.maximum(found[:, 2], 1e-30)
    if is_measured:
        cell_days = np.where(wanted >= 0, days[cell], np.nan)
        found[:, 3] = _largest(cell_days)
        with np.errstate(divide="ignore", invalid="ignore"):
            interval = (firsts[cell] - ages[cell]) / (cell_days - 1)
            overdue = ages[cell] / np.maximum(interval, 1)
        found[:, 4] = _largest(np.where(cell_days > 1, overdue, np.nan))
    return found


def _shares(codes: np.ndarray, count: int, events: np.ndarray) -> np.ndarray:
    """Each item's share in the events of each of its values, [C, W] float64, NaN without one."""
    is_value = codes >= 0
    weights = np.broadcast_to(events[:, np.newaxis], codes.shape)
    sums = np.bincount(codes[is_value], weights=weights[is_value], minlength=count)
    shares = np.full(codes.shape, np.nan)
    shares[is_value] = weights[is_value] / np.maximum(sums[codes[is_value]], 1)
    return shares


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest of each row, [N] float32, NaN where all are missing."""
    largest: np.ndarray = np.fmax.reduce(values, axis=1).astype(np.float32)
    return largest
