"""The pipeline file: one TOML file is one recommender.

`load` parses it once into frozen typed objects; every other module takes what it needs from those.
"""

import os
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, model_validator

from twinspire_core.config.feature_kinds import Feature
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
    PipelineConfig,
    RegistryConfig,
    ServingConfig,
)
from twinspire_core.config.tables.quality import EvaluationConfig, FusionConfig, GateConfig
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.config.validation_errors import explain
from twinspire_core.errors import UsageError
from twinspire_core.metrics import measure_names


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
    mix: FusionConfig = Field(
        default_factory=FusionConfig, description="What two-tower and simpler sources have to say."
    )
    gate: GateConfig = Field(default_factory=GateConfig, description="Conditions of going live.")
    index: IndexConfig = Field(default_factory=IndexConfig, description="Nearest neighbours.")
    registry: RegistryConfig = Field(default_factory=RegistryConfig, description="Publication.")
    serving: ServingConfig = Field(
        default_factory=ServingConfig, description="Contents for serving."
    )
    statistics: StatisticsConfig = Field(
        default_factory=StatisticsConfig, description="Data validation."
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

    def kinds(self, *kinds: str) -> dict[str, Feature]:
        """Features of the given kinds, by name."""
        return {name: f for name, f in self.features.items() if f.kind in kinds}

    @property
    def item_id(self) -> str | None:
        """Name of the item tower's id feature, whose table the histories share."""
        return next(
            (n for n, f in self.features.items() if f.kind == "id" and f.tower == "item"), None
        )

    def origin(self, name: str) -> str | None:
        """Table that holds the feature's column: events, items, users; None when it is computed."""
        f = self.features[name]
        if f.kind in ("count", "age", "time", "history"):
            return None
        if f.kind == "id":
            return "events"
        return f.origin or ("items" if f.tower == "item" else "events")

    def column(self, name: str) -> str:
        """The feature's column in its table."""
        f = self.features[name]
        if f.kind == "id":
            return self.columns.item if f.tower == "item" else self.columns.user
        return getattr(f, "column", None) or name

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for name, f in self.features.items():
            if not re.match(r"^[a-z][a-z0-9_]*$", name):
                raise ValueError(
                    f"a feature's name is lower case letters, digits and _, found {name!r}"
                )
            where = self.origin(name)
            if f.tower == "item" and where in ("events", "users") and f.kind != "id":
                raise ValueError(
                    f"features.{name}: an item feature comes from items, not from {where}"
                )
            if f.tower == "query" and where == "items":
                raise ValueError(
                    f"features.{name}: a query feature comes from events or users, not from items"
                )
            if where in ("items", "users") and getattr(self.source, where) is None:
                raise ValueError(
                    f"features.{name} comes from {where}, but source.{where} is not declared"
                )
            if f.kind == "count" and f.days > self.window.count_days:
                raise ValueError(
                    f"features.{name}.days is {f.days}, more than window.count_days ="
                    f" {self.window.count_days}"
                )
        self._check_sides()
        self._check_objectives()
        self._check_gate()
        return self

    def _check_objectives(self) -> None:
        c = self.columns
        if c.weights and not c.event:
            raise ValueError(
                "columns.weights go by event type, but columns.event does not say which column"
                " holds it"
            )
        for kind in c.weights:
            if c.positives and kind not in c.positives:
                near = get_close_matches(kind, c.positives, 1)
                raise ValueError(
                    f"columns.weights are of positives, {list(c.positives)}; found {kind!r}"
                    + (f"; did you mean {near[0]!r}?" if near else ", which is never trained on")
                )
        if c.positives and not any(c.weights.get(kind, 1.0) for kind in c.positives):
            raise ValueError(
                "columns.weights are 0 for all of columns.positives, so that nothing would be"
                " learned"
            )
        if self.train.auxiliary.weight and not c.label:
            raise ValueError(
                "train.auxiliary.weight is above 0, but columns.label does not say which column to"
                " learn"
            )
        for name, f in self.features.items():
            if (
                c.label
                and f.kind != "id"
                and self.origin(name) == "events"
                and self.column(name) == c.label
            ):
                raise ValueError(
                    f"features.{name} reads columns.label = {c.label!r}: what is to be learned of"
                    " an event cannot be known before it"
                )

    def _check_gate(self) -> None:
        ks, bounds = self.evaluation.ks, self.evaluation.slices
        for key, names, known in (
            ("gate.metric", [self.gate.metric], measure_names.headline(ks)),
            ("gate.floors", self._limited(self.gate.floors), measure_names.with_floors(ks, bounds)),
            (
                "gate.ceilings",
                self._limited(self.gate.ceilings),
                measure_names.with_ceilings(ks, bounds),
            ),
        ):
            for name in names:
                if name not in known:
                    slices = (
                        f" and a slice of evaluation.slices = {list(bounds)}" if "/" in name else ""
                    )
                    hint = _where_else(name, known, ks, bounds)
                    raise ValueError(
                        f"{key} names a measure with a k of evaluation.ks = {list(ks)}{slices},"
                        f" found {name!r}{hint}"
                    )

    def _limited(self, limits: dict[str, float]) -> list[str]:
        """The measures that limits are of."""
        of_mix = next((name for name in limits if name.startswith(measure_names.OF_MIX)), None)
        if of_mix and not self.mix.sources:
            raise ValueError(
                f"gate limits {of_mix!r}, but mix.sources is empty: there is no mix; leave"
                f" {of_mix!r} out"
            )
        return [name.removeprefix(measure_names.OF_MIX) for name in limits]

    def _check_sides(self) -> None:
        for side in ("query", "item"):
            if not self.tower(side):
                raise ValueError(
                    f"the {side} tower has no features: declare at least one with tower = {side!r}"
                )
            if len([f for f in self.tower(side).values() if f.kind == "id"]) > 1:
                raise ValueError(f"the {side} tower has more than one feature of kind id")
        if self.kinds("history") and self.item_id is None:
            raise ValueError(
                "a history shares the item id's embedding: declare a feature of kind id, tower item"
            )
        if len(self.kinds("history")) > 1:
            raise ValueError("at most one feature of kind history")
        if (
            self.columns.positives or any(f.types for f in self.kinds("history").values())
        ) and not self.columns.event:
            raise ValueError(
                "event types are listed, but columns.event does not say which column holds the type"
            )
        if (self.vocabulary.keep_days or 0) > self.window.vocabulary_days:
            raise ValueError("vocabulary.keep_days is at most window.vocabulary_days")


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
    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if name not in os.environ and default is None:
            raise UsageError(
                f"{path} uses ${{{name}}}, which is not set in the environment: set it, or write a"
                " default."
            )
        return os.environ.get(name, default or "")

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", value, text)


def _root_paths(tables: dict, folder: Path) -> None:
    defaults = {"pipeline": {"work_root": "work"}, "registry": {"root": "registry"}, "source": {}}
    for table, values in defaults.items():
        found = tables.setdefault(table, {}) if table != "source" else tables.get("source", {})
        if not isinstance(found, dict):
            continue
        for key in ("work_root", "root", "events", "items", "users"):
            value = found.get(key, values.get(key))
            if isinstance(value, str) and "://" not in value:
                found[key] = os.path.normpath(folder / value) + ("/" if value.endswith("/") else "")


def _where_else(
    measure: str, known: list[str], ks: tuple[int, ...], bounds: tuple[int, ...]
) -> str:
    """What may have been meant by a measure that cannot be named here."""
    for table, names in (
        ("floors", measure_names.with_floors),
        ("ceilings", measure_names.with_ceilings),
    ):
        if measure in names(ks, bounds):
            return f"; that can stand in gate.{table}"
    near = get_close_matches(measure, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
