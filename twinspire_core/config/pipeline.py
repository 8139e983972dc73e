"""The pipeline file: one TOML file is one recommender.

`load` parses it once into frozen typed objects, which all other modules use. The checks here are rules
between tables and features; a broken one is a ValueError, which `load` turns into a message.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from keyword import iskeyword
from pathlib import Path
from typing import Self, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, model_validator

from twinspire_core.config.feature_kinds import (
    CountFeature,
    Feature,
    FeatureKind,
    HistoryFeature,
    IdFeature,
    TimeFeature,
)
from twinspire_core.config.source_registry import NEIGHBOURS
from twinspire_core.config.tables.base import Strict
from twinspire_core.config.tables.data import (
    ColumnsConfig,
    CorpusConfig,
    SourceConfig,
    StatisticsConfig,
    VocabularyConfig,
    WindowConfig,
)
from twinspire_core.config.tables.deployment import (
    BeamConfig,
    IndexConfig,
    ListsConfig,
    NotifyConfig,
    PipelineConfig,
    RegistryConfig,
    ServingConfig,
)
from twinspire_core.config.tables.quality import (
    EvaluationConfig,
    GateConfig,
    SourcesConfig,
    check_gate,
)
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.config.validation_errors import explain
from twinspire_core.errors import UsageError, did_you_mean, shorten


def check_feature(name: str, feature: Feature, source: SourceConfig, window: WindowConfig) -> None:
    """Checks that a feature's table is declared, and fits its tower."""
    if not re.match(r"^[a-z][a-z0-9_]*$", name):
        raise ValueError(
            f"the name of a feature must be lower-case letters, digits and _; found {name!r}"
        )
    if iskeyword(name):
        # TensorFlow uses the name of a feature as the name of an argument.
        raise ValueError(
            f"features.{name}: a feature's name must not be a Python keyword; write"
            f' [features.its_{name}] with column = "{name}"'
        )
    table = feature.source_table
    is_id = isinstance(feature, IdFeature)
    if feature.tower == "item" and table in ("events", "users") and not is_id:
        raise ValueError(
            f"features.{name}: the item tower can only read columns of items, not of {table}"
        )
    if feature.tower == "query" and table == "items":
        raise ValueError(
            f"features.{name}: the query tower can only read columns of events or users, not of items"
        )
    if table in ("items", "users") and getattr(source, table) is None:
        raise ValueError(f"features.{name} reads {table}, but source.{table} is not set: set it")
    if isinstance(feature, CountFeature) and feature.days > window.count_days:
        raise ValueError(
            f"features.{name}.days is {feature.days}, more than window.count_days ="
            f" {window.count_days}: raise window.count_days, or count fewer days"
        )


def check_sides(features: Mapping[str, Feature]) -> None:
    """Checks that each tower has features, and at most one id."""
    for side in ("query", "item"):
        of_side = [f for f in features.values() if f.tower == side]
        if not of_side:
            raise ValueError(
                f"the {side} tower has no features: declare at least one with tower = {side!r}"
            )
        if sum(isinstance(f, IdFeature) for f in of_side) > 1:
            raise ValueError(
                f"the {side} tower has more than one feature of kind id: leave the others out"
            )


def check_history(features: Mapping[str, Feature], columns: ColumnsConfig) -> None:
    """Checks that a history has an item id to share, and a column for its event types."""
    histories = [f for f in features.values() if isinstance(f, HistoryFeature)]
    has_item_id = any(isinstance(f, IdFeature) and f.tower == "item" for f in features.values())
    if histories and not has_item_id:
        raise ValueError(
            "a history needs the embedding of item ids: declare a feature of kind id with tower item"
        )
    if len(histories) > 1:
        raise ValueError("at most one feature of kind history: leave the others out")
    lists_types = columns.positives or any(f.types for f in histories)
    if lists_types and not columns.event:
        raise ValueError(
            "event types are listed, but columns.event, the column with the type, is not set: set it,"
            " or leave the types out"
        )


def check_objectives(
    columns: ColumnsConfig, train: TrainConfig, event_columns: Mapping[str, str]
) -> None:
    """Checks that rewards and labels have a column, and that the label is not a feature.

    Args:
      columns: the names of the logs' columns.
      train: the table `train`.
      event_columns: by feature, the columns of events that features are read from.
    """
    if columns.weights and not columns.event:
        raise ValueError(
            "columns.weights are by event type, but columns.event, the column with the type, is not"
            " set: set it, or leave the weights out"
        )
    for event_type in columns.weights:
        if columns.positives and event_type not in columns.positives:
            hint = did_you_mean(event_type, columns.positives, "; ")
            raise ValueError(
                f"columns.weights can only list positives, {list(columns.positives)};"
                f" found {event_type!r}{hint or ', which is not used in training'}"
            )
    if columns.positives and not any(columns.weights.get(t, 1.0) for t in columns.positives):
        raise ValueError(
            "columns.weights are 0 for all of columns.positives, so the model would learn nothing:"
            " give one of them a weight above 0"
        )
    if train.auxiliary.weight and not columns.label:
        raise ValueError(
            "train.auxiliary.weight is above 0, but columns.label, the column to learn, is not set:"
            " set it, or leave the weight out"
        )
    # The label is known only after the event: as a feature it would leak.
    for name, column in event_columns.items():
        if columns.label and column == columns.label:
            raise ValueError(
                f"features.{name} reads columns.label = {columns.label!r}: the label of an"
                " event is not known before the event; leave the feature out"
            )


def check_sources(sources: SourcesConfig, serving: ServingConfig) -> None:
    """Checks that lists of single users are only in versions that store users anyway."""
    if NEIGHBOURS in sources.use and not serving.user_store:
        raise ValueError(
            "sources.use names neighbours, which stores lists of single users in versions, but"
            " serving.user_store = false keeps users out of versions: set it to true, or leave"
            " neighbours out"
        )


def check_lists(lists: ListsConfig, corpus: CorpusConfig, serving: ServingConfig) -> None:
    """Checks that rules on lists use attributes of the corpus, and do not contradict each other."""
    declared = corpus.attributes
    for name in lists.caps:
        if name in declared:
            continue
        others = f"known: {', '.join(declared)}" if declared else "none is declared there"
        hint = did_you_mean(name, declared) or others
        raise ValueError(
            f"lists.caps can only limit attributes in corpus.attributes; found {name!r}; {hint}"
        )
    if lists.new_share and serving.exclude_seen:
        raise ValueError(
            f"lists.new_share = {lists.new_share:g} has no effect with serving.exclude_seen ="
            " true, which makes every item of a list new to the user: leave one of them out"
        )


F = TypeVar("F", bound=FeatureKind)
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
"""`${NAME}` or `${NAME:-default}`, which is replaced by the value of an environment variable."""


class Pipeline(Strict):
    """A recommender, as its file declares it."""

    pipeline: PipelineConfig = Field(description="Name, time zone and schedule.")
    source: SourceConfig = Field(description="The logs.")
    columns: ColumnsConfig = Field(description="Their columns.")
    features: dict[str, Feature] = Field(description="What the towers see, by name.")
    window: WindowConfig = Field(default_factory=WindowConfig, description="Look-back windows.")
    vocabulary: VocabularyConfig = Field(
        default_factory=VocabularyConfig, description="Ids with rows of their own."
    )
    corpus: CorpusConfig = Field(
        default_factory=CorpusConfig, description="Items that can be recommended."
    )
    train: TrainConfig = Field(default_factory=TrainConfig, description="Model and training.")
    evaluation: EvaluationConfig = Field(
        default_factory=EvaluationConfig, description="Measurement."
    )
    sources: SourcesConfig = Field(
        default_factory=SourcesConfig, description="Where recommended items come from."
    )
    gate: GateConfig = Field(default_factory=GateConfig, description="Conditions of going live.")
    index: IndexConfig = Field(default_factory=IndexConfig, description="Nearest neighbours.")
    registry: RegistryConfig = Field(default_factory=RegistryConfig, description="Publication.")
    serving: ServingConfig = Field(
        default_factory=ServingConfig, description="Contents for serving."
    )
    lists: ListsConfig = Field(default_factory=ListsConfig, description="Rules on lists.")
    statistics: StatisticsConfig = Field(
        default_factory=StatisticsConfig, description="Data validation."
    )
    notify: NotifyConfig = Field(
        default_factory=NotifyConfig,
        description="Who is notified when a day needs attention.",
    )
    beam: BeamConfig = Field(default_factory=BeamConfig, description="Runner.")

    @property
    def name(self) -> str:
        """Name of the recommender."""
        return self.pipeline.name

    @property
    def zone(self) -> ZoneInfo:
        """The time zone whose calendar days are the days of the pipeline."""
        return ZoneInfo(self.pipeline.time_zone)

    def tower(self, side: str) -> dict[str, Feature]:
        """Features of the `query` or the `item` tower, by name, in the file's order."""
        return {name: f for name, f in self.features.items() if f.tower == side}

    def of_kind(self, kind: type[F]) -> dict[str, F]:
        """Features of one kind, by name, in the file's order."""
        return {name: f for name, f in self.features.items() if isinstance(f, kind)}

    @property
    def item_id(self) -> str | None:
        """Name of the item tower's id feature, whose table the histories share."""
        return next((x for x, f in self.tower("item").items() if isinstance(f, IdFeature)), None)

    @property
    def user_id(self) -> str | None:
        """Name of the query tower's id feature."""
        return next((x for x, f in self.tower("query").items() if isinstance(f, IdFeature)), None)

    @property
    def history_name(self) -> str | None:
        """Name of the feature of kind history."""
        return next(iter(self.of_kind(HistoryFeature)), None)

    @property
    def history(self) -> HistoryFeature | None:
        """The feature of kind history."""
        return next(iter(self.of_kind(HistoryFeature).values()), None)

    def column(self, name: str) -> str:
        """The feature's column in its table."""
        match self.features[name]:
            case IdFeature(tower="item"):
                return self.columns.item
            case IdFeature():
                return self.columns.user
            case CountFeature() | TimeFeature() | HistoryFeature():
                return name
            case feature:  # also for an age, whose column is a date of the items
                return feature.column or name

    def columns_of(self, table: str) -> dict[str, str]:
        """By feature, the columns of a table that features are read from, without ids, which `columns`
        names.
        """
        return {
            name: self.column(name)
            for name, f in self.features.items()
            if f.source_table == table and not isinstance(f, IdFeature)
        }

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        # Only the first broken rule is reported, because later rules assume the earlier ones.
        for name, feature in self.features.items():
            check_feature(name, feature, self.source, self.window)
        check_sides(self.features)
        check_history(self.features, self.columns)
        check_objectives(self.columns, self.train, self.columns_of("events"))
        check_sources(self.sources, self.serving)
        check_lists(self.lists, self.corpus, self.serving)
        check_gate(self.gate, self.evaluation)
        return self


def load(path: str | Path) -> Pipeline:
    """Reads a pipeline file.

    `${NAME}` and `${NAME:-default}` are taken from the environment. Relative paths start at the
    file's own folder.

    Raises:
      UsageError: the file is missing, is not TOML, or breaks a rule; the message lists all broken rules.
    """
    path = Path(path)
    text = ""
    try:
        text = path.read_text("utf-8")
        # Variables are replaced first, so that numbers and lists can come from the environment too.
        tables = tomllib.loads(_expand(text, path))
    except OSError as e:
        raise UsageError(
            f"The pipeline file {path} cannot be read: {e.strerror}. Check the path."
        ) from e
    except UnicodeDecodeError as e:
        raise UsageError(
            f"A pipeline file must be text in UTF-8; byte {e.start} of {path} is not. Save it as UTF-8."
        ) from e
    except tomllib.TOMLDecodeError as e:
        raise UsageError(
            f"A pipeline file must be valid TOML; {path} is not: {e}{_line_of(e, text)}. Correct it"
            " there: text needs quotes, a list brackets, and a table or key occurs once."
        ) from e
    try:
        # These two tables have paths as defaults, which are relative as well.
        tables = {"pipeline": {}, "registry": {}} | tables
        return Pipeline.model_validate(tables, context=path.resolve().parent)
    except ValidationError as e:
        problems = "\n".join(f"  - {explain(error, Pipeline)}" for error in e.errors())
        raise UsageError(
            f"{path} is not a valid pipeline file:\n{problems}\nAll keys: docs/pipeline-file.md"
        ) from e


def _line_of(error: tomllib.TOMLDecodeError, text: str) -> str:
    """The line that an error names, as the file has it: its variables may be secrets."""
    number = re.search(r"at line (\d+)", str(error))
    lines = text.splitlines()[: int(number[1])] if number else []
    return f": {shorten(lines[-1].strip())}" if lines else ""


def _expand(text: str, path: Path) -> str:
    """Replaces `${NAME}` and `${NAME:-default}` by the environment's values."""

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name not in os.environ and default is None:
            raise UsageError(
                f"{path} uses ${{{name}}}, which is not set in the environment. Set it, or write a"
                f" default: ${{{name}:-default}}."
            )
        return os.environ.get(name, default or "")

    return VARIABLE.sub(value, text)
