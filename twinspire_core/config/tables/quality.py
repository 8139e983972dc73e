"""The tables that say what is recommended, how it is measured, and what a version must reach to go live:
`sources`, `evaluation`, `gate`.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from twinspire_core.config.source_registry import (
    CO_OCCURRENCE,
    ENTRIES,
    HISTORY,
    POPULAR,
    TWO_TOWER,
    add_own,
)
from twinspire_core.config.tables.base import Strict
from twinspire_core.errors import did_you_mean
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.measure_names import SLICES

# What to do about sources of earlier releases.
_REMOVED = {
    "factors": "delete it. The two-tower's linear part, which train.history.pooling = 'attention' or"
    " 'sqrtn' adds, does its work"
}


def _known_source(name: str, info: ValidationInfo) -> str:
    """The name of a source; makes one that is a file in the folder of the context known."""
    if name.endswith(".py"):
        return add_own(str((info.context or Path()) / name))
    if name in _REMOVED:
        raise ValueError(f"the source {name!r} was removed; {_REMOVED[name]}")
    if name not in ENTRIES:
        hint = did_you_mean(name, ENTRIES) or f"known: {', '.join(ENTRIES)}"
        raise ValueError(f"there is no source {name!r}; {hint}")
    return name


class EvaluationConfig(Strict):
    """What is measured."""

    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field((10, 50, 100), description="List lengths.")
    holdout: float = Field(
        0.1, ge=0, lt=1, description="Share of users held out of a day's training, at most 10,000."
    )


class SourcesConfig(Strict):
    """The sources of recommended items. A ranker that is fitted each day orders them. Until there
    is a ranker, the order is fixed.
    """

    use: tuple[Annotated[str, AfterValidator(_known_source)], ...] = Field(
        (TWO_TOWER, HISTORY, POPULAR, CO_OCCURRENCE),
        min_length=1,
        description=(
            "The sources. `history`: items that the user took before. `popular`: the most"
            " popular items. `co_occurrence`: items that others took together with the user's"
            " last items. `neighbours`: items that similar users took; needs"
            " `serving.user_store`, because versions then hold lists of single users."
            " With `two_tower` alone there is no ranker."
            " `steady.py`: your own source, in a file of this name next to the pipeline file"
            " (docs/guide/sources.md)."
        ),
    )

    @field_validator("use")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for number, name in enumerate(value) if name in value[:number]]
        if twice:
            raise ValueError(f"each source can be named only once; found {twice[0]!r} twice")
        return value

    @property
    def fitted(self) -> tuple[str, ...]:
        """The sources that are fitted on users' event sequences."""
        return tuple(name for name in self.use if ENTRIES[name].is_fitted)

    @property
    def several(self) -> bool:
        """Whether there is something to rank, for which users and items need decayed counts."""
        return self.use != (TWO_TOWER,)


_Share = Annotated[float, Field(ge=0, le=1)]


class GateConfig(Strict):
    """What a version must reach to go live."""

    metric: str = Field(
        "recall@50",
        description=(
            "The measure by which a new version is compared with the newest accepted version, on"
            " the same users."
        ),
    )
    # Refusing only what is surely larger misses losses of 30% on 8 of 10 days (docs/decisions/0019-gate.md).
    max_drop: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "Largest tolerated relative drop of `metric`. A larger drop is refused, unless it"
            " may be chance: its paired 95% interval includes no drop. Two comparisons refuse"
            " a drop only if its whole interval is larger than `max_drop`: with the best"
            " version accepted in the last 30 days, and with the previous version's ranker. In"
            " a slice of users by earlier events (0, 1-4, 5-19, 20+), a drop is"
            " refused only if it is surely larger than twice `max_drop`."
        ),
    )
    min_users: int = Field(
        200,
        ge=1,
        description=(
            "Users needed for a comparison, also in a slice. With fewer users, a drop is"
            " refused if its whole interval is larger than `max_drop`. Otherwise up to 28"
            " earlier days are pooled. If they have too few users, too, the gate writes a"
            " note."
        ),
    )
    floors: dict[str, _Share] = Field(
        default_factory=dict,
        description=(
            "Smallest allowed values by measure, also of a slice: `{ 'recall@50' = 0.05,"
            " 'recall@50/users:0' = 0.01 }`. A floor applies to the lists of the two-tower"
            " and to the served lists. `served/recall@50` replaces it for the served lists."
        ),
    )
    ceilings: dict[str, _Share] = Field(
        default_factory=dict,
        description=(
            "Largest allowed values by measure: `{ 'gini@50' = 0.95, 'overlap@50' = 0.5, "
            "'served/overlap@50' = 0.7, 'popular_share@50' = 0.6 }`."
        ),
    )
    on_skew: Literal["warn", "refuse", "ignore"] = Field(
        "warn",
        description=(
            "What the gate does on training-serving skew: a note, a refusal, or nothing."
            " There is skew if a feature's values in the catalogue, or of the users, differ from"
            " those in the training rows by more than 0.3 (Jensen-Shannon divergence of numbers,"
            " L-infinity distance of categories). There is also skew if items with values"
            " outside the range of the training rows have more than a tenth of the events."
        ),
    )


def check_gate(gate: GateConfig, evaluation: EvaluationConfig) -> None:
    """Checks that the gate names measures that exist.

    Raises:
      ValueError: it names others.
    """
    ks = evaluation.ks
    floors, ceilings = (
        [name.removeprefix(measure_names.OF_SERVED) for name in limits]
        for limits in (gate.floors, gate.ceilings)
    )
    _check_measures("gate.metric", [gate.metric], measure_names.headline(ks), evaluation)
    _check_measures("gate.floors", floors, measure_names.with_floors(ks, SLICES), evaluation)
    _check_measures("gate.ceilings", ceilings, measure_names.with_ceilings(ks, SLICES), evaluation)


def _check_measures(
    key: str, measures: list[str], allowed: list[str], evaluation: EvaluationConfig
) -> None:
    for name in measures:
        if name in allowed:
            continue
        rule = f"a measure with a k of evaluation.ks = {list(evaluation.ks)}"
        if "/" in name:
            rule += f" and a slice, one of {', '.join(measure_names.names(SLICES))}"
        raise ValueError(
            f"{key} must name {rule}; found {name!r}{_hint(name, allowed, evaluation)}"
        )


def _hint(measure: str, allowed: list[str], evaluation: EvaluationConfig) -> str:
    """A hint at what was meant by a measure that cannot be named here."""
    # Perhaps it belongs in the other table of limits.
    for table, names in (
        ("floors", measure_names.with_floors),
        ("ceilings", measure_names.with_ceilings),
    ):
        if measure in names(evaluation.ks, SLICES):
            return f"; that can stand in gate.{table}"
    return did_you_mean(measure, allowed, "; ")
