"""Features of many days, made once for all ways of training: they depend on no key of `[train]`.

One run of the feature stage, from scratch over the whole time, writes the raw rows of every day,
each as of its moment. What a day needs beyond these, its own transform graph with the vocabulary of
its window, is made of them by the stage's own functions: the same vocabularies as a run of the
stage for that day alone, for a tenth of its seconds.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from beam_jobs import features_stage
from beam_jobs.transform import analysis, graph
from benchmarks.quality.prepare import override
from model.evaluation.evaluation_set import EvaluationSet, prepare
from model.evaluation.queries import progressive_rows
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.stage_context import StageContext

MEASURED_DAYS = 7
"""Days behind a training that it is measured on: as many as the feature stage writes queries of."""
_COUNTED: dict[Path, analysis.Summary] = {}
"""Of each day's examples, what transform graphs have to know of them."""
_ALL_USERS = {"evaluation.holdout": 0.999999}
"""Queries of days before the last are written of users that may be held out: of everybody, then."""


@dataclass(frozen=True, kw_only=True)
class DayFeatures:
    """Features of a span of days.

    Attributes:
      p: the pipeline; `window.train_days` is that of training anew.
      first: the first day that is trained anew on its window.
      last: the last day that is trained on.
      folder: where they are kept.
    """

    p: Pipeline
    first: date
    last: date
    folder: Path

    def make_raw(self) -> None:
        """Makes the raw rows of all days, if they are not there."""
        if not self._raw.exists():
            window = self.p.window
            before = max(window.train_days, window.vocabulary_days)
            days = (self.last - self.first).days + before
            self._run_stage(self._raw, self.last, {"window.train_days": days}, "full")

    def days(self) -> list[date]:
        """Days with rows, from the first to the last."""
        days = (self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1))
        return [day for day in days if self._examples(day).exists()]

    def of_day(self, day: date) -> Path:
        """What `model.training.train` reads of a day that goes on from its parent."""
        made = self.folder / "days" / str(day)
        if not made.exists():
            draft = _fresh(made)
            row = self._summary(day)
            transform = draft / feature_schema.TRANSFORM
            transform.mkdir()
            graph.fit(self.p, row, transform)
            self._transform([day], draft)
            os.replace(draft, made)
        return made

    def of_window(self, day: date, scratch: Path) -> Path:
        """What it reads of a day that is trained anew, in a folder that is made for it."""
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        transform = self.of_day(day) / feature_schema.TRANSFORM
        (scratch / feature_schema.TRANSFORM).symlink_to(transform.resolve())
        self._transform(_days_up_to(day, self.p.window.train_days), scratch)
        return scratch

    def measured(self, day: date) -> tuple[EvaluationSet, pa.Table]:
        """The next-day queries of each of the days behind one, and the corpus, whose items have no
        features that change.
        """
        end = day + timedelta(days=MEASURED_DAYS)
        home = self.folder / "measured" / str(end)
        if not home.exists():
            self._run_stage(home, end, _ALL_USERS, "incremental")
        corpus = ds.dataset(home / feature_schema.CORPUS_START).to_table()
        rows = ds.dataset(home / feature_schema.EVALUATION).to_table()
        most = self.p.evaluation.max_users
        by_day = [
            progressive_rows(rows, day + timedelta(days=n + 1), most) for n in range(MEASURED_DAYS)
        ]
        return prepare(pa.concat_tables(by_day), corpus), corpus

    @property
    def _raw(self) -> Path:
        return self.folder / "raw"

    def _examples(self, day: date) -> Path:
        return self._raw / feature_schema.EXAMPLES / feature_schema.day_folder(day)

    def _run_stage(self, home: Path, day: date, settings: dict[str, float], mode: str) -> None:
        draft = _fresh(home)
        context = StageContext(
            pipeline=override(self.p, settings),
            day=day,
            mode="full" if mode == "full" else "incremental",
            out=str(draft),
        )
        features_stage.run(context)
        os.replace(draft, home)

    def _summary(self, day: date) -> pa.RecordBatch:
        """What the transform graph of a day has to know, of the rows of its vocabulary window."""
        summarise = analysis.Summarise(self.p, day)
        window = _days_up_to(day, self.p.window.vocabulary_days)
        parts = [self._counts_of(one) for one in window if self._examples(one).exists()]
        return summarise.extract_output(summarise.merge_accumulators(parts))

    def _counts_of(self, day: date) -> analysis.Summary:
        """A day's part of that. Each day is in the windows of many."""
        examples = self._examples(day)
        if examples not in _COUNTED:
            _COUNTED[examples] = analysis.summarise(self.p, ds.dataset(examples).to_table())
        return _COUNTED[examples]

    def _transform(self, days: Iterable[date], folder: Path) -> None:
        """Puts the examples of days through the graph in a folder, but for users held out."""
        apply = graph.Graph(self.p, folder / feature_schema.TRANSFORM)
        for day in days:
            if not self._examples(day).exists():
                continue
            examples = ds.dataset(self._examples(day)).to_table()
            trained_on = examples.filter(pc.invert(examples["_holdout"])).combine_chunks()
            out = folder / feature_schema.TRANSFORMED / feature_schema.day_folder(day)
            out.mkdir(parents=True)
            rows = [apply(batch) for batch in trained_on.to_batches()]
            pq.write_table(pa.Table.from_batches(rows), out / "rows.parquet")


def _days_up_to(day: date, length: int) -> list[date]:
    return [day - timedelta(days=n) for n in reversed(range(length))]


def _fresh(home: Path) -> Path:
    """An empty folder beside a place, to be moved there once it is whole."""
    draft = home.with_name(home.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft
