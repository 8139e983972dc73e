"""Training rows of rankers: the candidates of a day's users, with their features and which were taken.

Each day's rows are written to its measure attempt, and the next day's `measure` reads them.

Candidates and features are as of the start of the day: they come from the parent's two-tower and from the
other sources, none of which has seen the day. Only users who took a candidate count, since other users say
nothing about the order of candidates; held-out users are left out. Most users appear as stored users, and
some a second time with their history alone, like unknown users in requests.

Items that users had before are candidates, too, even if they are later left out of lists: trees learn
their value from the feature `seen`.

Q queries, M candidates of all of them, F features.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import SourceLists, chunks, queries_with
from twinspire_core import storage
from twinspire_core.config.source_registry import TWO_TOWER
from twinspire_core.contracts import attempts
from twinspire_core.contracts import ranker_files as contract
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.ranking.ranker import RankingFeatures
from twinspire_core.search.ragged import arrow_lists, list_lengths
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.storage import parquet_files

_ENDING = ".parquet"
HARDEST = 60
"""Hard negatives kept for each query: the candidates that were not taken and that a simple order puts
first. The order of these is what trees must learn.
"""
BY_CHANCE = 40
"""Negatives kept for each query, drawn from all others."""
MOST = 12_000
"""Queries to fit on. Days are added from the newest on until they have as many."""
MOST_DAYS = 28
"""Days to fit on, today included: as many as the gate pools."""
ONE_BY_HISTORY_OF = 3
"""One in this many users is also asked for by history alone. Most requests name their user."""
LEAST_BY_HISTORY = 100
"""Users of a day who are all asked for by history: if there are few rows, each helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingRows:
    """Candidates of one day's queries.

    Attributes:
      sources: names of the sources that list the candidates.
      lengths: [Q] int64, candidates of each query.
      by_history: [Q] bool, whether the query has a history alone and no stored user.
      taken: [M] bool, whether the user took the candidate on the day.
      weights: [M] float32, how many candidates each stands for.
      names: names of the F features, in the order of `values`.
      values: [M, F] float32, features of each candidate.
      folder: where the rows were read from; None for new rows.
    """

    day: date
    sources: tuple[str, ...]
    lengths: np.ndarray
    by_history: np.ndarray
    taken: np.ndarray
    weights: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    folder: str | None = None

    @property
    def queries(self) -> int:
        """Number of users; a user who is asked for in both ways counts once."""
        return int(max(np.count_nonzero(~self.by_history), np.count_nonzero(self.by_history)))

    def to_table(self) -> pa.Table:
        """Rows of twinspire_core/contracts/ranker_files.py."""
        columns = {
            contract.TAKEN: self.taken,
            contract.WEIGHT: self.weights,
            **{contract.FEATURE_PREFIX + n: self.values[:, i] for i, n in enumerate(self.names)},
        }
        # One entry of each list for each candidate of the query.
        lists = {
            name: arrow_lists(self.lengths, pa.array(np.ascontiguousarray(values)))
            for name, values in columns.items()
        }
        table = pa.table({**lists, contract.BY_HISTORY: pa.array(self.by_history)})
        return table.replace_schema_metadata(contract.metadata(self.sources))

    @classmethod
    def of_table(cls, day: date, table: pa.Table, folder: str | None = None) -> Self:
        """Reads what `to_table` made."""
        prefix = contract.FEATURE_PREFIX
        lists = {
            name: np.asarray(table.column(name).combine_chunks().flatten())
            for name in table.column_names
            if name != contract.BY_HISTORY
        }
        values = {n.removeprefix(prefix): x for n, x in lists.items() if n.startswith(prefix)}
        taken = lists[contract.TAKEN]
        return cls(
            day=day,
            sources=contract.sources_of(table.schema),
            lengths=list_lengths(table.column(contract.TAKEN).combine_chunks()),
            by_history=table.column(contract.BY_HISTORY).to_numpy(),
            taken=taken,
            weights=lists[contract.WEIGHT],
            names=tuple(values),
            # Transposed, so that each feature is contiguous in memory: `of_names` reads columns.
            values=np.stack(list(values.values())).T if values else np.zeros((len(taken), 0), "f4"),
            folder=folder,
        )

    def of_names(self, names: Sequence[str]) -> np.ndarray:
        """Values of these features, [M, len(names)] float32; NaN for features that the day lacks."""
        values = np.full((len(names), len(self.taken)), np.nan, np.float32).T
        for column, name in enumerate(names):
            if name in self.names:
                values[:, column] = self.values[:, self.names.index(name)]
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Queries to make rows of.

    Attributes:
      evaluation_set: the queries, with the items that were taken.
      usable: [K] int64, ascending, the queries to use.
      ready: lists that exist already, such as those of the two-tower.
      vectors: of all queries and of the corpus; None without towers.
      by_history: whether the queries have a history alone.
    """

    evaluation_set: EvaluationSet
    usable: np.ndarray
    ready: SourceLists = field(default_factory=dict)
    vectors: Vectors | None = None
    by_history: bool = False


def rows_of_day(
    day: date, names: Sequence[str], sources: CandidateSources, asked: Sequence[Asked]
) -> RankingRows:
    """Makes the rows of a day.

    Args:
      day: seeds the choice of negatives.
      names: sources of the candidates. The two-tower is skipped if there are no vectors.
      sources: as of the start of the day.
      asked: one or several kinds of queries, for the same corpus. If there are several, only some of the
        queries by history are used.
    """
    if any(kind.vectors is None for kind in asked):
        names = without_towers(names)
    features = RankingFeatures.of(sources.tables)
    made = features.names(names)
    # Lengths, by history, taken, weights and values of each chunk. The first chunk is empty, so that a
    # day without candidates has columns of the right types.
    chunks_of_rows = [
        (
            np.zeros(0, np.int64),
            np.zeros(0, bool),
            np.zeros(0, bool),
            np.zeros(0, np.float32),
            np.zeros((0, len(made)), np.float32),
        )
    ]
    for kind in asked:
        usable = kind.usable
        if kind.by_history and len(asked) > 1:
            some = min(len(usable), max(LEAST_BY_HISTORY, len(usable) // ONE_BY_HISTORY_OF))
            # Evenly spread, because ids often follow the order in which users came.
            usable = usable[np.arange(some) * len(usable) // max(some, 1)]
        queries = queries_with(kind.evaluation_set, kind.ready)
        truth = kind.evaluation_set.truth.take(usable)
        vectors = kind.vectors
        if vectors is not None:
            vectors = Vectors(queries=vectors.queries[usable], items=vectors.items)
        for chunk, part, vectors_of_part in chunks(queries.take(usable), vectors):
            lists = sources.candidates(names, part)
            pairs = Pairs.of(lists, part, kind.evaluation_set.items, vectors_of_part)
            wanted = truth.part(chunk.start, chunk.stop)
            position = pairs.find(wanted.row, wanted.values)
            is_taken = np.zeros(len(pairs), bool)
            is_taken[position[position >= 0]] = True
            # Seeded by the day and the chunk: a second run of the stage keeps the same candidates.
            sampled, stands_for = sample_pairs(pairs, is_taken, day.toordinal() + chunk.start)
            of_query = np.bincount(pairs.query[sampled], minlength=len(part))
            lengths = of_query[of_query > 0]
            values = features.values(pairs.some(sampled), made)
            by_history = np.full(len(lengths), kind.by_history)
            chunks_of_rows.append((lengths, by_history, is_taken[sampled], stands_for, values))
    lengths, by_history, taken, weights, values = map(
        np.concatenate, zip(*chunks_of_rows, strict=True)
    )
    return RankingRows(
        day=day,
        sources=tuple(names),
        lengths=lengths,
        by_history=by_history,
        taken=taken,
        weights=weights,
        names=made,
        values=values,
    )


def sample_pairs(pairs: Pairs, taken: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Chooses the candidates to keep: all that were taken, the `HARDEST` others, and `BY_CHANCE` of the
    rest. Queries without a taken candidate are left out.

    Args:
      pairs: M candidates of all queries.
      taken: [M] bool, whether the query's user took the candidate.

    Returns: positions, [K] int64, ascending; and how many candidates each stands for, [K] float32.
    """
    has_hit = np.bincount(pairs.query[taken], minlength=len(pairs.queries)) > 0
    not_taken = np.flatnonzero(has_hit[pairs.query] & ~taken)
    # The sum over the sources' lists is the order without a ranker.
    is_hard = _places(pairs.query[not_taken], -pairs.gains[not_taken].sum(axis=1)) < HARDEST
    rest = not_taken[~is_hard]
    drawn = np.random.default_rng(seed).random(len(pairs))[rest]
    chosen = rest[_places(pairs.query[rest], drawn) < BY_CHANCE]
    of_query = np.bincount(pairs.query[rest], minlength=len(pairs.queries))
    weights = np.ones(len(pairs), np.float32)
    # If 40 of 400 are drawn, each counts ten times: the weights undo the sampling.
    weights[chosen] = np.maximum(of_query[pairs.query[chosen]] / BY_CHANCE, 1)
    sampled = np.sort(np.concatenate([np.flatnonzero(taken), not_taken[is_hard], chosen]))
    return sampled, weights[sampled]


def _places(query: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The rank of each value among the values of its query, from the lowest, [N] int64."""
    # Queries [0, 0, 1] with values [5, 3, 4] have the ranks [1, 0, 0]. Queries are in ascending order, so
    # that bisection finds the first row of each.
    order = np.lexsort((value, query))
    first = np.searchsorted(query, query)
    places = np.empty(len(query), np.int64)
    places[order] = np.arange(len(query))
    return places - first


def read(attempt: str) -> list[RankingRows]:
    """Reads the rows in a measure attempt, the newest day first. There are none if the rows were deleted
    or have another format.

    Args:
      attempt: its folder, local or remote.
    """
    folder = storage.join(attempt, contract.ROWS)
    rows = []
    # Names have ISO dates, so sorting names sorts days.
    for name in sorted(storage.list_names(folder), reverse=True):
        day = attempts.day_of(name.removesuffix(_ENDING)) if name.endswith(_ENDING) else None
        if day is not None:
            table = parquet_files.read_file(storage.join(folder, name))
            if contract.is_known(table.schema):
                rows.append(RankingRows.of_table(day, table, folder))
    return rows


def write(attempt: Path, days: Iterable[RankingRows]) -> None:
    """Writes a file for each day. Rows that were read from a file are copied."""
    folder = attempt / contract.ROWS
    for rows in days:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"dt={rows.day}{_ENDING}"
        if rows.folder:
            storage.download(rows.folder, folder, [name])
        else:
            # Most values occur only once, so a dictionary would save nothing.
            pq.write_table(rows.to_table(), folder / name, compression="zstd", use_dictionary=False)


def listed_by(listing: Sequence[str], sources: Sequence[str]) -> bool:
    """Whether rows have candidates of these sources. Rows of replayed days have none of the two-tower."""
    return list(listing) in (list(sources), without_towers(sources))


def without_towers(sources: Sequence[str]) -> list[str]:
    """All sources but the two-tower."""
    return [name for name in sources if name != TWO_TOWER]


def keep_needed(
    days: Iterable[RankingRows],
    today: date,
    *,
    sources: Sequence[str],
) -> list[RankingRows]:
    """Chooses the days to fit a ranker on: the newest ones, until they have `MOST` queries.

    Args:
      days: distinct days, none after today, in any order.
      today: the last of `MOST_DAYS` days that may be used.
      sources: rows with candidates of other sources are left out.

    Returns: the rows, the newest day first.
    """
    oldest = today - timedelta(days=MOST_DAYS - 1)
    needed: list[RankingRows] = []
    queries = 0
    for rows in sorted(days, key=lambda rows: rows.day, reverse=True):
        is_new = rows.day >= oldest and queries < MOST
        if is_new and rows.queries and listed_by(rows.sources, sources):
            needed.append(rows)
            queries += len(rows.lengths)
    return needed
