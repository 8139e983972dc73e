"""Which keys of the pipeline file a search tries, and how far it goes from the file's own values.

`init` drafts what the log tells: windows, what positives are, which features there are. The ten keys
below are those of which only training tells whether they help.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any, get_args

from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import toml_text
from twinspire_core.config.tables.training import HistoryEncoderConfig, TrainConfig
from twinspire_core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from optuna import Trial

Settings = dict[str, Any]
"""Values by key, as JSON has them."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is tried.

    Attributes:
      name: as `train.temperature`.
      why: what it changes, for `--help`.
      step: a number is multiplied or divided by it, up to `reach` times.
      reach: how often.
      least: the smallest number that is tried.
      choices: the values of a key without an order.
    """

    name: str
    why: str
    step: float = 1.0
    reach: int = 0
    least: float = 0.0
    choices: Sequence[Any] = ()

    def number(self, present: float, steps: int) -> float:
        """The value so many steps from the present one, with two digits that count."""
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
    Key("train.batch_size", "examples of a step, and so its negatives", 2, 2, least=2),
    Key("train.dimension", "numbers of a vector; costs memory and search time", 2, 1, least=1),
    Key("train.layers", "whether the towers mix features", choices=([], [128])),
    Key(
        "train.id_dropout",
        "helps new users and items, costs known ones",
        choices=(0.0, 0.05, 0.1, 0.2, 0.4),
    ),
    Key("train.order", "what is popular now, or lasting tastes", choices=_ORDERS),
    Key("train.history.pooling", "how a history becomes one vector", choices=_POOLINGS),
    Key(_HISTORY, "events of a history; features are made again", 2, 2, least=1),
)
"""What is tried. Not windows: they are drafted, and change which days are compared. Not negatives and
correction: they are right or wrong for a log, whatever its figures.
"""


def choose(pipeline: Pipeline, names: Sequence[str] = ()) -> list[Key]:
    """The keys to try, as the pipeline file names them.

    Args:
      pipeline: whose history has a name, if there is one.
      names: keys; none for all.

    Raises:
      UsageError: one is not among those that are tried.
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
            raise UsageError(f"A search tries keys of a fixed list; found {name!r}; {hint}")
    return [key for key in keys if not names or key.name in names]


def present(pipeline: Pipeline, keys: Sequence[Key]) -> Settings:
    """The values of the pipeline file."""
    tables = pipeline.model_dump(mode="json", by_alias=True)
    return {
        key.name: reduce(lambda of, part: of[part], key.name.split("."), tables) for key in keys
    }


def start(pipeline: Pipeline, keys: Sequence[Key]) -> dict[str, Any]:
    """Optuna's parameters of the file's own values."""
    values = present(pipeline, keys)
    return {key.name: toml_text(values[key.name]) if key.choices else 0 for key in keys}


def suggest(trial: "Trial", pipeline: Pipeline, keys: Sequence[Key]) -> Settings:
    """Has Optuna choose values."""
    settings = present(pipeline, keys)
    for key in keys:
        now = settings[key.name]
        if key.choices:
            texts = {toml_text(choice): choice for choice in (*key.choices, now)}
            settings[key.name] = texts[trial.suggest_categorical(key.name, list(texts))]
        else:
            steps = trial.suggest_int(key.name, -key.reach, key.reach)
            settings[key.name] = key.number(now, steps)
    return settings


def changes(settings: Settings, present: Settings) -> Settings:
    """The values that are not the file's."""
    return {name: value for name, value in settings.items() if value != present[name]}


def toml_lines(settings: Mapping[str, Any], present: Settings) -> Iterator[str]:
    """The lines of the pipeline file to change, with the values that they replace."""
    parted = [(*name.rpartition(".")[::2], name) for name in settings]
    for table, of_table in groupby(sorted(parted), lambda one: one[0]):
        yield f"[{table}]"
        for _, key, name in of_table:
            yield f"{key} = {toml_text(settings[name])}  # {toml_text(present[name])}"
