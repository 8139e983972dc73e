"""Puts towers to the test: the queries of a day against its catalogue, each encoded by the towers' own graphs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import tensorflow as tf

from model import bundle
from model.bundle import Tower
from model.evaluate import Measures, Split, evaluate_baselines, evaluate_split, prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """Queries with their answers.

    Attributes:
      queries: rows of `evaluation/`.
      split: the same rows, in positions of the corpus.
    """

    queries: pa.Table
    split: Split

    def baselines(self, ks: Sequence[int]) -> dict[str, Measures]:
        """Measures of the lists that need no model."""
        return evaluate_baselines(self.split, ks)


def exam(queries: pa.Table, corpus: pa.Table) -> Exam:
    """Prepares queries for a corpus."""
    return Exam(queries=queries, split=prepare(queries, corpus))


def examine(attempt: Path, corpus: pa.Table, exams: Sequence[Exam], ks: Sequence[int]) -> list[Measures]:
    """Measures the two towers of a train attempt from raw features, the corpus encoded once.

    Args:
      attempt: local folder that holds both towers.
      corpus: rows of `corpus/start/`, the one that the exams were prepared for.
      exams: what is asked.
      ks: list lengths.

    Returns: measures, one per exam.
    """
    query, item = (load(attempt / name) for name in (bundle.QUERY_TOWER, bundle.ITEM_TOWER))
    vectors = item(corpus)
    return [evaluate_split(exam.split, query(exam.queries), vectors, ks) for exam in exams]


def load(folder: Path) -> Tower:
    """Loads a tower."""
    return Tower(tf.saved_model.load(str(folder)))
