"""A search for settings that can continue after a stop: trials, one after the other, in Optuna's storage.

The first trial has the values of the file. Later ones depend only on the seed and on earlier trials, so that
a killed search has the same result as any other.
"""

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import optuna
from optuna import Study
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.trial import Trial as Asked

from twinspire.runs.runner import run_stage
from twinspire.runs.stage_tasks import source_digests
from twinspire.runs.stages import FEATURES, MEASURE, TRAIN, config_digest, digest, stage_key
from twinspire.tuning import tried_settings
from twinspire.tuning.tried_settings import (
    Key,
    Settings,
    first_version,
    measure,
    place,
)
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import TryAgain, TwinspireError, UsageError, in_one_line
from twinspire_core.terminal import doing, muted

DONE, EARLY = "done", "ended early"
# This many trials run on all days. Later ones end early if they are below the median of earlier trials
_FIRST = 4
# This many trials have random settings, because Optuna's sampler has too little to learn from before
_AT_RANDOM = 8
# Optuna may propose settings that were already tried. After this many proposals in a row without a new
# one, the search ends
_ASKED = 20
# A trial that kills the process each time, for lack of memory, has failed after this many starts
_TRIES = 2

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that has ended.

    Attributes:
      settings: the values that were tried, by key.
      days: by day that was measured, its figures.
      outcome: `DONE`, `EARLY`, or why it failed.
    """

    settings: Settings
    days: Mapping[str, Figures]
    outcome: str

    @property
    def failed(self) -> bool:
        """Whether training with its settings failed."""
        return self.outcome not in (DONE, EARLY)

    def mean(self, name: str) -> float:
        """The mean of a figure over its days."""
        return fmean(self._values(name))

    def spread(self, name: str) -> float | None:
        """The standard deviation over its days; None for one day."""
        values = self._values(name)
        return stdev(values) if len(values) > 1 else None

    @property
    def cpu(self) -> float:
        """CPU seconds."""
        return sum(self._values("cpu"))

    def _values(self, name: str) -> list[float]:
        return [figures[name] for figures in self.days.values()]


class Search:
    """Trials of some keys on some days."""

    def __init__(
        self, study: Study, pipeline: Pipeline, keys: Sequence[Key], days: Sequence[date]
    ) -> None:
        """Goes on from the trials in the study."""
        self._study = study
        self._pipeline = pipeline
        self._keys = keys
        self._days = days
        self._digests: dict[str, str] = {}
        self._metric = pipeline.gate.metric
        self.present = tried_settings.present(pipeline, keys)

    def trials(self) -> list[Trial]:
        """The trials that have ended, in order."""
        return [trial for trial in map(_ended, self._study.trials) if trial]

    def run(self, most: int, tell: Callable[[Trial, int], None]) -> None:
        """Runs trials until `most` have ended.

        Args:
          most: the number of trials, with those of earlier calls; fewer if no settings are left to try.
          tell: called with each trial that has ended, and its number.

        Raises:
          BadData, TryAgain: the features of a day cannot be made.
        """
        self._try_again()
        if not self._study.trials:
            self._study.enqueue_trial(tried_settings.start(self._pipeline, self._keys))
        while (number := len(self.trials()) + 1) <= most:
            with doing(f"trial {number} of {most}"):
                if (asked := self._ask(number)) is None:
                    return
                try:
                    self._evaluate(asked, asked.user_attrs["settings"])
                except (KeyboardInterrupt, SystemExit):
                    # A trial that a person or the system stops has not failed
                    asked.set_user_attr("tries", asked.user_attrs.get("tries", 1) - 1)
                    raise
                tell(self.trials()[-1], number)

    def _ask(self, number: int) -> Asked | None:
        """A trial of settings that were not tried before; None if Optuna finds none."""
        tried = [trial.settings for trial in self.trials()]
        for again in range(_ASKED):
            # A new sampler for each question, with a seed that depends only on the trial: a continued
            # search asks the same as one that was never stopped
            seed = self._pipeline.train.seed + _ASKED * number + again
            self._study.sampler = TPESampler(seed=seed, n_startup_trials=_AT_RANDOM)
            asked = self._study.ask()
            settings = tried_settings.suggest(asked, self._pipeline, self._keys)
            if settings not in tried:
                asked.set_user_attr("settings", settings)
                return asked
            self._study.tell(asked, state=TrialState.FAIL)
        return None

    def _evaluate(self, asked: Asked, settings: Settings) -> None:
        known = self._known()
        figures_by_day: dict[str, Figures] = {}
        for step, day in enumerate(self._days):
            try:
                measured = known.get((_text(settings), str(day))) or self._measure(settings, day)
            except _Failed as failed:
                asked.set_user_attr("reason", str(failed))
                self._study.tell(asked, state=TrialState.FAIL)
                return
            figures_by_day[str(day)] = measured
            asked.set_user_attr("days", figures_by_day)
            value = fmean(figures[self._metric] for figures in figures_by_day.values())
            # At each step, all trials have the same days
            asked.report(value, step)
            if step + 1 < len(self._days) and asked.should_prune():
                self._study.tell(asked, state=TrialState.PRUNED)
                return
        self._study.tell(asked, value)

    def _known(self) -> dict[tuple[str, str], Figures]:
        """Figures of all days that were ever measured, also by trials that were stopped."""
        return {
            (_text(trial.user_attrs["settings"]), day): figures
            for trial in self._study.trials
            for day, figures in trial.user_attrs.get("days", {}).items()
        }

    def _measure(self, settings: Settings, day: date) -> Figures:
        run = first_version(self._pipeline, settings, day, self._digests)
        with doing(f"{day}"), muted():
            run_stage(run, FEATURES.name, mode="full")  # skipped if they are there
            try:
                return measure(run)
            except TryAgain:
                raise
            except TwinspireError as error:
                raise _Failed(f"{day}: {in_one_line(error)}") from error

    def _try_again(self) -> None:
        """Queues trials that were stopped. Their days that were measured are not measured again."""
        for trial in self._study.get_trials(states=[TrialState.RUNNING]):
            tries = trial.user_attrs.get("tries", 1)
            self._study.tell(trial.number, state=TrialState.FAIL)
            if tries < _TRIES:
                self._study.enqueue_trial(trial.params, user_attrs={"tries": tries + 1})
            else:
                attributes = {**trial.user_attrs, "reason": f"It ended the process {tries} times."}
                self._study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))


class _Failed(Exception):
    """Training with these settings failed."""


def _ended(trial: FrozenTrial) -> Trial | None:
    """The trial; None if it has not ended, or was stopped."""
    reason = trial.user_attrs.get("reason")
    outcome = {"COMPLETE": DONE, "PRUNED": EARLY, "FAIL": reason}.get(trial.state.name)
    attributes = trial.user_attrs
    return Trial(attributes["settings"], attributes.get("days", {}), outcome) if outcome else None


def _text(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)


@contextmanager
def open_search(pipeline: Pipeline, keys: Sequence[Key], days: Sequence[date]) -> Iterator[Search]:
    """The search for these keys on these days, with the same logs and the same pipeline file.

    Raises:
      UsageError: the working files are not on a disk, or a day has no logs, or no day before it has any.
      TryAgain: another search of the pipeline is running.
    """
    _check_days(pipeline, days)
    home = Path(place(pipeline))
    if storage.is_remote(pipeline.pipeline.work_root):
        raise UsageError(
            "`twinspire tune` needs a local work_root; pipeline.work_root is"
            f" {pipeline.pipeline.work_root}. Copy the pipeline file, and set work_root to a local"
            " folder."
        )
    home.mkdir(parents=True, exist_ok=True)
    # A lock of the system, which also ends if the process is killed
    with (home / "search.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TryAgain(
                f"Only one search of a pipeline can run at a time; another search of {pipeline.name}"
                f" has locked {home / 'search.lock'}. Wait until it has ended."
            ) from error
        yield Search(_study(home, _name(pipeline, keys, days)), pipeline, keys, days)


def _study(home: Path, name: str) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=f"sqlite:///{home / 'studies.db'}",
        study_name=name,
        direction="maximize",
        pruner=MedianPruner(n_startup_trials=_FIRST),
        load_if_exists=True,
    )


def _name(pipeline: Pipeline, keys: Sequence[Key], days: Sequence[date]) -> str:
    """Names a study by everything that its figures depend on."""
    read: dict[str, str] = {}
    logs: dict[str, str] = {}
    for day in days:
        run = first_version(pipeline, {}, day, read)
        logs |= source_digests(run, "full")
    stages = [
        stage_key(stage, config=config_digest(run.pipeline, stage))
        for stage in (FEATURES, TRAIN, MEASURE)
    ]
    facts: dict[str, Any] = {
        "stages": stages,
        "metric": pipeline.gate.metric,
        "logs": logs,
        # Without the help texts: other words must not start a new search
        "keys": [asdict(key) | {"why": ""} for key in keys],
        "days": [str(day) for day in days],
    }
    return f"{days[0]}..{days[-1]} {digest(facts)[:12]}"


def _check_days(pipeline: Pipeline, days: Sequence[date]) -> None:
    """Refuses days without logs, or without logs before them, before any work."""
    from beam_jobs.ingest import day_files

    there = set(day_files.folder_days(pipeline, "events"))
    if lacking := [day for day in days if day not in there]:
        held = f"days {min(there)} to {max(there)}" if there else "no day"
        raise UsageError(
            f"Settings can only be tried on days with logs; {lacking[0]} has none."
            f" {pipeline.source.events} has {held}. Name other days."
        )
    before = {days[0] - timedelta(days=n) for n in range(1, pipeline.window.train_days)}
    if not before & there:
        raise UsageError(
            f"A day needs earlier logs to train on; {days[0]} has none in the {len(before)} days before"
            " it. Name a later day, or raise window.train_days."
        )
