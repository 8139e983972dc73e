"""Puts towers to the test: queries against a catalogue, each encoded by the towers' own graphs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow as tf

from model import bundle
from model.bundle import Tower
from model.evaluate import Measures, Ranked, compare, evaluate_baselines, evaluate_ranked, rank
from model.heldout import strangers_on
from model.queries import holdout_rows, next_click_rows, progressive_rows
from model.split import Split, prepare
from twinspire.stages import StageContext
from twinspire.tables import Evaluation

DAY, HELD, CLICKS, HELD_CLICKS = "day", "held out", "clicks", "held out clicks"
"""The exams of a day: next-day of all users and of those held out of training; next-click of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """Queries with their answers.

    Attributes:
      queries: raw features, and what `model.split.prepare` reads.
      split: the same rows, in positions of the corpus.
    """

    queries: pa.Table
    split: Split

    def baselines(self, ks: Sequence[int]) -> dict[str, Measures]:
        """Measures of the lists that need no model."""
        return evaluate_baselines(self.split, ks)

    def measures(self, ranked: Ranked, ks: Sequence[int]) -> Measures:
        """Measures of lists for these queries."""
        return evaluate_ranked(self.split, ranked, ks)


class Encoded(NamedTuple):
    """What two towers make of exams.

    Attributes:
      queries: [U, D] float32 by exam.
      items: [C, D] float32.
    """

    queries: Mapping[str, np.ndarray]
    items: np.ndarray


def exam(queries: pa.Table, corpus: pa.Table, settings: Evaluation | None = None) -> Exam:
    """Prepares queries for a corpus; without settings there are no slices and no intervals."""
    bounds, resamples = (settings.slices, settings.resamples) if settings else ((), 0)
    return Exam(queries=queries, split=prepare(queries, corpus, bounds=bounds, resamples=resamples))


def examine(attempt: Path, corpus: pa.Table, exams: Mapping[str, Exam], k: int) -> dict[str, Ranked]:
    """What the two towers of a train attempt list, from raw features, the corpus encoded once.

    Args:
      attempt: local folder that holds both towers.
      corpus: rows of `corpus/start/`, the one that the exams were prepared for.
      exams: what is asked, by name.
      k: length of the lists.

    Returns: lists, one set per exam.
    """
    return rank_all(encode(attempt, corpus, exams), exams, k)


def encode(attempt: Path, corpus: pa.Table, exams: Mapping[str, Exam]) -> Encoded:
    """The vectors of the corpus and of all queries; arguments as those of `examine`."""
    query, item = (load(attempt / name) for name in (bundle.QUERY_TOWER, bundle.ITEM_TOWER))
    return Encoded({name: query(exam.queries) for name, exam in exams.items()}, item(corpus))


def rank_all(encoded: Encoded, exams: Mapping[str, Exam], k: int) -> dict[str, Ranked]:
    """Lists of k items, one set per exam, out of their vectors."""
    return {name: rank(exam.split, encoded.queries[name], encoded.items, k) for name, exam in exams.items()}


def exams_of(ctx: StageContext, evaluation: pa.Table, examples: pa.Table, corpus: pa.Table) -> dict[str, Exam]:
    """What a version of the day is measured on, by name.

    Args:
      ctx: pipeline and day.
      evaluation: rows of `evaluation/`.
      examples: the day's rows of `examples/`.
      corpus: rows of `corpus/start/`.
    """
    p, limit = ctx.pipeline, ctx.pipeline.evaluation.max_users
    history = next(iter(p.kinds("history")), None)
    earlier = strangers_on(ctx)
    held = holdout_rows(evaluation, ctx.day, earlier=earlier, min_users=p.gate.min_users, max_users=limit)
    asked = {DAY: progressive_rows(evaluation, ctx.day, limit), HELD: held}
    clicks = {CLICKS: examples, HELD_CLICKS: examples.filter(examples.column("_holdout"))}
    asked |= {name: next_click_rows(rows, history, limit) for name, rows in clicks.items()}
    return {name: exam(rows, corpus, p.evaluation) for name, rows in asked.items()}


def metrics(
    exams: Mapping[str, Exam],
    before: Mapping[str, Ranked],
    after: Mapping[str, Ranked],
    others: Mapping[str, Mapping[str, Ranked]],
    ks: Sequence[int],
) -> dict[str, Any]:
    """What metrics.json tells of quality; model/bundle.py says what the keys mean.

    Args:
      exams: from `exams_of`.
      before: the parent's lists by exam, none without a parent; what is behind the longest k does not count.
      after: this version's lists of those held out, likewise.
      others: further baselines by exam and name.
      ks: list lengths.
    """
    before, after = ({name: x.first(max(ks)) for name, x in ranked.items()} for ranked in (before, after))

    def measures(name: str, ranked: Mapping[str, Ranked]) -> Measures | None:
        return exams[name].measures(ranked[name], ks) if name in ranked else None

    def judged(name: str) -> dict[str, Any]:
        split = exams[name].split
        return {
            "users": split.users,
            "days": split.days,
            "candidate": measures(name, after),
            "baseline": measures(name, before),
            "change": compare(split, after[name].kept, before[name].kept, ks) if before else None,
        }

    def without_model(name: str) -> dict[str, Measures]:
        more = {other: exams[name].measures(ranked, ks) for other, ranked in others.get(name, {}).items()}
        return {**exams[name].baselines(ks), **more}

    return {
        bundle.PROGRESSIVE: measures(DAY, before),
        bundle.BASELINES: without_model(DAY),
        bundle.HOLDOUT: {**judged(HELD), "baselines": without_model(HELD)},
        bundle.NEXT_CLICK: {
            bundle.PROGRESSIVE: measures(CLICKS, before),
            bundle.BASELINES: exams[CLICKS].baselines(ks),
            bundle.HOLDOUT: judged(HELD_CLICKS),
        },
    }


def load(folder: Path) -> Tower:
    """Loads a tower."""
    return Tower(tf.saved_model.load(str(folder)))
