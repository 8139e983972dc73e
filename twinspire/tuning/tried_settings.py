"""The settings that a search tries, and how they are measured on a day.

A search tries ten keys of the pipeline file. For these only training shows whether other values help.
`init` drafts the other keys from the log: windows, positives, features.

A trial runs the stages features, train and measure of a first version, which is measured on its last
day before it is trained on it (model/training/train.py). Its files are below
`<work_root>/<pipeline>/tuning/`. Features are kept, for all settings that do not change them. The other
files are deleted when the day is measured.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any, get_args

from twinspire.runs.day_run import DayRun
from twinspire.runs.runner import run_stage
from twinspire.runs.stages import FEATURES, MEASURE, TRAIN, config_digest
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import override, toml_text
from twinspire_core.config.source_registry import TWO_TOWER
from twinspire_core.config.tables.training import HistoryEncoderConfig, TrainConfig
from twinspire_core.contracts import attempts
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import value_of
from twinspire_core.errors import BadData, UsageError, did_you_mean

if TYPE_CHECKING:
    from optuna import Trial

Settings = dict[str, Any]
"""Values by key, as JSON has them."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is tried.

    Attributes:
      name: the key with its table, such as `train.temperature`.
      why: what it changes, for `--help`.
      step: for a number: the factor between one value and the next.
      reach: for a number: how many steps up and down are tried.
      least: the smallest number that is tried.
      choices: the values of a key that is not a number.
    """

    name: str
    why: str
    step: float = 1.0
    reach: int = 0
    least: float = 0.0
    choices: Sequence[Any] = ()

    def number(self, present: float, steps: int) -> float:
        """The value that many steps from the file's, rounded to two significant digits."""
        # The file's own value exactly: rounding might change it, and the first trial is the file as it is.
        if not steps:
            return present
        value = present * self.step**steps
        rounded = round(value) if isinstance(present, int) else float(f"{value:.2g}")
        return max(rounded, self.least)


_HISTORY = "features.HISTORY.length"
_ORDERS = get_args(TrainConfig.model_fields["order"].annotation)
_POOLINGS = get_args(HistoryEncoderConfig.model_fields["pooling"].annotation)
KEYS = (
    Key("train.learning_rate", "the size of a step", step=1.8, reach=3),
    Key("train.temperature", "how sharply scores separate items", step=1.4, reach=3),
    Key("train.epochs", "passes over the window; too many overfit", 1.6, 3, least=1),
    Key("train.batch_size", "examples of a step, which are also its negatives", 2, 2, least=2),
    Key("train.dimension", "numbers of a vector; costs memory and search time", 2, 1, least=1),
    Key("train.layers", "whether the towers mix features", choices=([], [128])),
    Key(
        "train.id_dropout",
        "helps new users and items, costs known ones",
        choices=(0.0, 0.05, 0.1, 0.2, 0.4),
    ),
    Key(
        "train.order", "by time for current trends, or shuffled for lasting tastes", choices=_ORDERS
    ),
    Key("train.history.pooling", "how a history becomes one vector", choices=_POOLINGS),
    Key(_HISTORY, "events of a history; features are made again", 2, 2, least=1),
)
"""The keys that are tried. Windows are not, because they change which days are compared. Negatives and the
correction are not, because they are right or wrong for a log, whatever the figures say.
"""


def choose(pipeline: Pipeline, names: Sequence[str] = ()) -> list[Key]:
    """The keys to try, as the pipeline file names them.

    Args:
      names: some of the keys; all if it is empty.

    Raises:
      UsageError: a name is not among the keys that are tried.
    """
    keys = [
        replace(key, name=key.name.replace("HISTORY", pipeline.history_name or ""))
        for key in KEYS
        if pipeline.history_name or "history" not in key.name.lower()
    ]
    known = [key.name for key in keys]
    for name in names:
        if name not in known:
            hint = (
                did_you_mean(name, known) or f"name one of {', '.join(known)}, or leave --key out"
            )
            raise UsageError(f"`twinspire tune` cannot try {name!r}; {hint}")
    return [key for key in keys if not names or key.name in names]


def present(pipeline: Pipeline, keys: Sequence[Key]) -> Settings:
    """The values of the pipeline file."""
    tables = pipeline.model_dump(mode="json", by_alias=True)
    return {
        key.name: reduce(lambda of, part: of[part], key.name.split("."), tables) for key in keys
    }


def start(pipeline: Pipeline, keys: Sequence[Key]) -> dict[str, Any]:
    """The file's values, as parameters of Optuna."""
    values = present(pipeline, keys)
    return {key.name: toml_text(values[key.name]) if key.choices else 0 for key in keys}


def suggest(trial: "Trial", pipeline: Pipeline, keys: Sequence[Key]) -> Settings:
    """Has Optuna choose values."""
    settings = present(pipeline, keys)
    for key in keys:
        now = settings[key.name]
        if key.choices:
            # As text, since Optuna stores no lists as choices, and `train.layers` is one.
            texts = {toml_text(choice): choice for choice in (*key.choices, now)}
            settings[key.name] = texts[trial.suggest_categorical(key.name, list(texts))]
        else:
            settings[key.name] = key.number(now, trial.suggest_int(key.name, -key.reach, key.reach))
    return settings


def changes(settings: Settings, present: Settings) -> Settings:
    """The values that differ from the file's."""
    return {name: value for name, value in settings.items() if value != present[name]}


def toml_lines(settings: Mapping[str, Any], present: Settings) -> Iterator[str]:
    """The lines of the pipeline file to change, with the values that they replace."""
    parted = [(*name.rpartition(".")[::2], name) for name in settings]
    for table, of_table in groupby(sorted(parted), lambda one: one[0]):
        yield f"[{table}]"
        for _, key, name in of_table:
            yield f"{key} = {toml_text(settings[name])}  # {toml_text(present[name])}"


_FOLDER = "tuning"
# Settings of all trials: no ranker is fitted, and a failure sends no notification
_TOWERS_ALONE = {"sources.use": [TWO_TOWER], "notify.command": None}


class FirstVersion(DayRun):
    """A run of a day as if the registry held no version yet."""

    def read_log(self) -> None:
        """Leaves the log empty."""


def place(pipeline: Pipeline) -> str:
    """The folder of a pipeline's searches."""
    return attempts.place(pipeline, _FOLDER)


def folders(pipeline: Pipeline) -> list[Pipeline]:
    """The pipeline in each folder that searches have made."""
    home = place(pipeline)
    return [
        override(pipeline, {"pipeline.work_root": storage.join(home, name)})
        for name in storage.list_names(home)
        if "." not in name  # files, such as the lock and the studies
    ]


def first_version(
    pipeline: Pipeline, settings: dict[str, Any], day: date, digests: dict[str, str]
) -> FirstVersion:
    """A run of a day with other settings, in the folder of its features.

    Args:
      settings: values by key that replace those of the pipeline file.
      digests: of log files that were read before, to which the run adds.
    """
    p = override(pipeline, {**_TOWERS_ALONE, **settings})
    home = storage.join(place(pipeline), config_digest(p, FEATURES)[:12])
    run = FirstVersion(override(p, {"pipeline.work_root": home}), day, log=())
    run.log_digests = digests
    return run


def measure(run: FirstVersion) -> dict[str, float]:
    """Trains up to the day, and measures the two-tower on it. Returns figures by name, and `cpu` seconds.

    Raises:
      BadData: no user of the day can be measured.
    """
    # CPU time of this process and its children
    begin = sum(os.times()[:4])
    try:
        for stage in (TRAIN.name, MEASURE.name):
            result = run_stage(run, stage, mode="full")
        measures = DayMetrics.read(result["attempt"]).progressive
    finally:
        # Only the figures are kept: the files of many trials would fill the disk
        for stage in (TRAIN.name, MEASURE.name):
            storage.delete_tree(storage.join(attempts.day_uri(run.pipeline, run.day), stage))
    metric = run.pipeline.gate.metric
    value = value_of(measures, metric)
    if measures is None or value is None:
        raise BadData(
            f"To measure {metric}, a day needs users with events in the days before it; {run.day} has"
            " none. Name a later day, or raise window.train_days."
        )
    second = second_metric(run.pipeline)
    cpu = sum(os.times()[:4]) - begin
    return {metric: value, second: measures.value(second) or 0.0, "cpu": round(cpu, 1)}


def second_metric(pipeline: Pipeline) -> str:
    """The metric that tables show next to the one that the search raises."""
    return f"ndcg@{min(pipeline.evaluation.ks)}"
