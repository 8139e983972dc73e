"""Puts towers to the test: queries against a catalogue, each encoded by the towers' own graphs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from model.evaluation.evaluate import Measures, compare, evaluate_baselines, evaluate_ranked
from model.evaluation.evaluation_set import CLICKS, DAY, HELD, HELD_CLICKS, EvaluationSet
from model.evaluation.ranked_lists import RankedLists, nearest, with_and_without
from model.towers.auxiliary_head import LabelledClicks
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.day_metrics import DayMetrics, HeldOutMeasures, NextClickMeasures
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.search.ragged import Ragged, list_lengths

Lift = Mapping[str, Mapping[str, float]]
"""What `model.evaluation.popularity_lift.measure_lift` returns, by measure."""
Towers = Mapping[str, Tower]
"""Both towers, by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What two towers make of exams, each distinct query once: many exams share some, and a
    basket's events are one.

    Attributes:
      distinct: [Q, D] float32, the queries.
      place: which of them each query of an exam is, [U] int64 by exam.
      items: [C, D] float32.
    """

    distinct: np.ndarray
    place: Mapping[str, np.ndarray]
    items: np.ndarray

    def queries(self, name: str) -> np.ndarray:
        """Those of an exam, [U, D] float32."""
        vectors: np.ndarray = self.distinct[self.place[name]]
        return vectors


def rank_with_towers(
    towers: Towers, corpus: pa.Table, exams: Mapping[str, EvaluationSet], k: int
) -> dict[str, RankedLists]:
    """What two towers list, from raw features, the corpus encoded once.

    Args:
      towers: by side.
      corpus: rows of `corpus/start/`, the one that the exams were prepared for.
      exams: what is asked, by name.
      k: length of the lists.

    Returns: lists, one set per exam.
    """
    return rank_all(encode(towers, corpus, exams), exams, k)


def encode(towers: Towers, corpus: pa.Table, exams: Mapping[str, EvaluationSet]) -> Encoded:
    """The vectors of the corpus and of all queries; arguments as those of `rank_with_towers`."""
    read = {"_user", *towers["query"].inputs}
    parts = [
        exam.queries.select([c for c in exam.queries.column_names if c in read])
        for exam in exams.values()
    ]
    every = pa.concat_tables(parts, promote_options="default")
    first, place = distinct_rows(every)
    ends = np.cumsum([part.num_rows for part in parts])[:-1]
    return Encoded(
        distinct=towers["query"](every.take(first)),
        place=dict(zip(exams, np.split(place, ends), strict=True)),
        items=towers["item"](corpus),
    )


def rank_all(
    encoded: Encoded, exams: Mapping[str, EvaluationSet], k: int
) -> dict[str, RankedLists]:
    """Lists of k items, one set per exam, out of their vectors; each distinct query is searched for
    once.
    """
    most = np.zeros(len(encoded.distinct), np.int64)
    for name, place in encoded.place.items():
        np.maximum.at(most, place, exams[name].past.lengths)
    found = nearest(encoded.distinct, encoded.items, k, most)
    return {
        name: with_and_without(found[place], exams[name].past, k)
        for name, place in encoded.place.items()
    }


def metrics(
    exams: Mapping[str, EvaluationSet],
    before: Mapping[str, RankedLists],
    after: Mapping[str, RankedLists],
    others: Mapping[str, Mapping[str, RankedLists]],
    ks: Sequence[int],
    lift: Lift | None,
) -> DayMetrics:
    """What metrics.json tells of quality, and no more of it.

    Args:
      exams: from `day_evaluation_sets`.
      before: the parent's lists by exam, none without a parent; what is behind the longest k does
        not count.
      after: this version's lists of those held out, likewise.
      others: further baselines by exam and name.
      ks: list lengths.
      lift: how far this version is ahead of what was popular on the day, by measure.
    """
    before, after = (
        {name: x.first(max(ks)) for name, x in ranked.items()} for ranked in (before, after)
    )

    def measures(name: str, ranked: Mapping[str, RankedLists]) -> Measures | None:
        return evaluate_ranked(exams[name], ranked[name], ks) if name in ranked else None

    def judged(name: str) -> dict[str, Any]:
        split = exams[name]
        change = compare(split, after[name].kept, before[name].kept, ks) if before else None
        return {
            "users": split.users,
            "days": split.days,
            "candidate": measures(name, after),
            "baseline": measures(name, before),
            "change": change,
        }

    def without_model(name: str) -> dict[str, Measures]:
        more = {
            other: evaluate_ranked(exams[name], ranked, ks)
            for other, ranked in others.get(name, {}).items()
        }
        return {**evaluate_baselines(exams[name], ks), **more}

    return DayMetrics(
        progressive=measures(DAY, before),
        baselines=without_model(DAY),
        holdout=HeldOutMeasures(**judged(HELD), baselines=without_model(HELD), lead=lift),
        next_click=NextClickMeasures(
            progressive=measures(CLICKS, before),
            baselines=evaluate_baselines(exams[CLICKS], ks),
            holdout=HeldOutMeasures(**judged(HELD_CLICKS)),
        ),
    )


def load(folder: Path) -> Tower:
    """Loads a tower."""
    return Tower(tf.saved_model.load(str(folder)))


def load_both(attempt: Path) -> Towers:
    """Loads the towers of a train attempt from its local folder."""
    return {side: load(attempt / name) for side, name in model_bundle.TOWERS.items()}


def distinct_rows(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Tells equal rows, for what is asked several times.

    Args:
      rows: N of them; a list may be null, which is as good as empty.

    Returns: the first row of each kind, [Q] int64; and which of these each row equals, [N] int64.
    """
    codes = np.ascontiguousarray(
        np.concatenate([_codes(column.combine_chunks()) for column in rows.columns], axis=1)
    )
    whole = codes.view(np.dtype((np.void, codes.itemsize * codes.shape[1])))
    _, first, place = np.unique(whole.ravel(), return_index=True, return_inverse=True)
    return first, place


def _codes(column: pa.Array) -> np.ndarray:
    """A column's values as numbers, equal ones as equal numbers: [N, 1] int32, or of lists [N, L];
    -1 is none.
    """
    if not pa.types.is_list(column.type):
        return _numbered(column)[:, None]
    lists = Ragged.of_lengths(_numbered(column.flatten()), list_lengths(column))
    return lists.padded().astype(np.int32)


def _numbered(values: pa.Array) -> np.ndarray:
    codes: np.ndarray = (
        values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    )
    return codes


def labelled_clicks(asked: EvaluationSet, name: str, encoded: Encoded) -> LabelledClicks:
    """The clicks of an exam that have a label and an item of the corpus.

    Args:
      asked: next-click queries, with the column `_label`.
      name: the exam's, in `encoded`.
      encoded: by the towers whose head is asked.
    """
    label = asked.queries.column(feature_schema.LABEL).to_numpy()
    item = asked.truth.values
    there = np.flatnonzero(np.isfinite(label) & (item >= 0))
    return LabelledClicks(encoded.queries(name)[there], encoded.items[item[there]], label[there])
