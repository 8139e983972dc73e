"""The pipeline file: one TOML file is one recommender.

`load` parses it once into frozen typed objects; every other module takes what it needs from those.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Self, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, model_validator

from twinspire_core import storage
from twinspire_core.config import pipeline_rules
from twinspire_core.config.feature_kinds import (
    CountFeature,
    Feature,
    FeatureKind,
    HistoryFeature,
    IdFeature,
    TimeFeature,
)
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
from twinspire_core.config.tables.gate import GateConfig, check_gate
from twinspire_core.config.tables.quality import EvaluationConfig, SourcesConfig
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.config.validation_errors import explain
from twinspire_core.errors import UsageError

F = TypeVar("F", bound=FeatureKind)
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
"""`${NAME}` or `${NAME:-default}`, which the environment has the value of."""


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
        description="Who is told when a day needs somebody.",
    )
    beam: BeamConfig = Field(default_factory=BeamConfig, description="Runner.")

    @property
    def name(self) -> str:
        """Name of the recommender."""
        return self.pipeline.name

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose calendar days are the days."""
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
        return self._id_of("item")

    @property
    def user_id(self) -> str | None:
        """Name of the query tower's id feature."""
        return self._id_of("query")

    def _id_of(self, side: str) -> str | None:
        ids = [name for name, f in self.of_kind(IdFeature).items() if f.tower == side]
        return ids[0] if ids else None

    @property
    def history_name(self) -> str | None:
        """Name of the feature of kind history."""
        return next(iter(self.of_kind(HistoryFeature)), None)

    @property
    def history(self) -> HistoryFeature | None:
        """The feature of kind history."""
        return next(iter(self.of_kind(HistoryFeature).values()), None)

    def origin(self, name: str) -> str | None:
        """Table that holds the feature's column: events, items, users; None when it is computed."""
        return self.features[name].source_table

    def column(self, name: str) -> str:
        """The feature's column in its table."""
        match self.features[name]:
            case IdFeature(tower="item"):
                return self.columns.item
            case IdFeature():
                return self.columns.user
            case CountFeature() | TimeFeature() | HistoryFeature():
                return name
            case feature:  # an age among them: its column is a date in the items
                return feature.column or name

    def columns_of(self, table: str) -> dict[str, str]:
        """By feature, the columns of a table that features are read from; ids are not among them,
        which `columns` names.
        """
        return {
            name: self.column(name)
            for name, f in self.features.items()
            if f.source_table == table and not isinstance(f, IdFeature)
        }

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        # Only the first broken rule is reported: later rules build on earlier ones.
        for name, feature in self.features.items():
            pipeline_rules.check_feature(name, feature, self.source, self.window)
        pipeline_rules.check_sides(self.features)
        pipeline_rules.check_history(self.features, self.columns)
        pipeline_rules.check_objectives(self.columns, self.train, self.columns_of("events"))
        pipeline_rules.check_sources(self.sources, self.serving)
        pipeline_rules.check_lists(self.lists, self.corpus, self.serving)
        check_gate(self.gate, self.evaluation)
        return self


def load(path: str | Path) -> Pipeline:
    """Reads a pipeline file.

    `${NAME}` and `${NAME:-default}` are taken from the environment. Relative paths start at the
    file's own folder.

    Raises:
      UsageError: the file is missing, is no TOML, or breaks a rule; all broken rules are listed.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(_expand(path.read_text(), path))
    except OSError as e:
        raise UsageError(f"A pipeline file is needed; cannot read {path}: {e.strerror}.") from e
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"A pipeline file is TOML; {path} is not: {e}.") from e
    _root_paths(tables, path.resolve().parent)
    try:
        return Pipeline.model_validate(tables)
    except ValidationError as e:
        problems = "\n".join(f"  - {explain(error, Pipeline)}" for error in e.errors())
        raise UsageError(
            f"{path} is not a valid pipeline file:\n{problems}\nAll keys: docs/pipeline-file.md"
        ) from e


def _expand(text: str, path: Path) -> str:
    """Replaces `${NAME}` and `${NAME:-default}` by the environment's values."""

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name not in os.environ and default is None:
            raise UsageError(
                f"{path} uses ${{{name}}}, which is not set in the environment: set it, or write a"
                " default."
            )
        return os.environ.get(name, default or "")

    return VARIABLE.sub(value, text)


def _root_paths(tables: dict[str, Any], folder: Path) -> None:
    """Makes relative paths start at the folder of the pipeline file, in place."""
    # The defaults of these two are relative paths as well.
    tables.setdefault("pipeline", {})
    tables.setdefault("registry", {})
    _root_path(tables["pipeline"], "work_root", folder, default="work")
    _root_path(tables["registry"], "root", folder, default="registry")
    for key in ("events", "items", "users"):
        _root_path(tables.get("source"), key, folder)


def _root_path(table: object, key: str, folder: Path, default: str | None = None) -> None:
    if not isinstance(table, dict):
        return  # pydantic says so
    path = table.get(key, default)
    if isinstance(path, str) and not storage.has_scheme(path):
        # A folder of a day may be named with a closing slash, which normpath drops.
        closing = "/" if path.endswith("/") else ""
        table[key] = os.path.normpath(folder / path) + closing
