"""The tables that say what is recommended, how it is measured, and what a version must reach to go live:
`sources`, `evaluation`, `gate`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from twinspire_core.config.source_registry import (
    CO_OCCURRENCE,
    ENTRIES,
    HISTORY,
    POPULAR,
    REMOVED,
    TWO_TOWER,
    add_own,
)
from twinspire_core.config.tables.base import Strict
from twinspire_core.errors import did_you_mean
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.measure_names import SLICES


def _known_source(name: str) -> str:
    """The name of a source; makes one that is a file known."""
    if name.endswith(".py"):
        return add_own(name)
    if name in REMOVED:
        raise ValueError(f"there is no source {name!r} any more: write {REMOVED[name]!r}")
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
    """What is recommended: items from several sources, in the order of a ranker that is fitted each day, and
    in a fixed order until there is one.
    """

    use: tuple[Annotated[str, AfterValidator(_known_source)], ...] = Field(
        (TWO_TOWER, HISTORY, POPULAR, CO_OCCURRENCE),
        min_length=1,
        description=(
            "The sources. `history`: what the user took before. `popular`: what everybody takes."
            " `co_occurrence`: what others took together with what the user took last. `neighbours`:"
            " what similar users took; needs `serving.user_store`, because versions then hold lists of"
            " single users. `factors`: matrix factorisation. With `two_tower` alone there is no ranker."
            " `steady.py`: a source of your own, in that file next to the pipeline file"
            " (docs/guide/sources.md)."
        ),
    )

    @field_validator("use")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for number, name in enumerate(value) if name in value[:number]]
        if twice:
            raise ValueError(f"each source is named once, found {twice[0]!r} more than once")
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
        "recall@50", description="Compared with the newest accepted version, on the same users."
    )
    max_drop: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "Largest tolerated relative drop of `metric`. A larger one is refused, unless its paired 95%"
            " interval includes no drop, so that it may be chance. Compared with the best version"
            " accepted in the last 30 days, and for the ranker compared with the version before, a drop"
            " is refused when the whole interval is larger; in a slice of users by earlier events (0,"
            " 1-4, 5-19, 20+), when it is surely more than twice as large."
        ),
    )
    max_lead_drop: float = Field(
        1.0,
        ge=0,
        le=1,
        description=(
            "Largest tolerated relative drop of the lead over today's most popular items, compared with"
            " the median lead of the last seven versions; refused only when the whole interval is also"
            " below all of theirs. Set 0.3 for logs that change daily, like news, where it is easy to"
            " beat a version that saw nothing of the day. 1 is off."
        ),
    )
    min_users: int = Field(
        200,
        ge=1,
        description=(
            "Users needed for a comparison, also in a slice. With fewer, a drop is refused when its whole"
            " interval is larger than `max_drop`; else up to 28 earlier days are pooled, and where their"
            " users are too few as well, the gate notes it."
        ),
    )
    floors: dict[str, _Share] = Field(
        default_factory=dict,
        description=(
            "Smallest allowed values by measure, also of a slice: `{ 'recall@50' = 0.05,"
            " 'recall@50/users:0' = 0.01 }`. They apply to the two-tower and to what is served; a"
            " `served/recall@50` applies to what is served instead."
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
            "What happens on training-serving skew: when a feature of the catalogue or of the users is"
            " further than 0.3 from that of the training rows (Jensen-Shannon divergence of a number,"
            " L-infinity distance of a category), or more than a tenth of the catalogue, by events, has"
            " values outside the range of the training rows. A note, a refusal, or nothing."
        ),
    )


def check_gate(gate: GateConfig, evaluation: EvaluationConfig) -> None:
    """Checks that the gate names measures that exist.

    Raises:
      ValueError: it names others.
    """
    ks = evaluation.ks
    floors = _limited_measures(gate.floors)
    ceilings = _limited_measures(gate.ceilings)
    _check_measures("gate.metric", [gate.metric], measure_names.headline(ks), evaluation)
    _check_measures("gate.floors", floors, measure_names.with_floors(ks, SLICES), evaluation)
    _check_measures("gate.ceilings", ceilings, measure_names.with_ceilings(ks, SLICES), evaluation)


def _limited_measures(limits: dict[str, float]) -> list[str]:
    """The measures that are limited, without the prefix for what is served."""
    for name in limits:
        if name.startswith("mix/"):
            raise ValueError(
                f"gate limits {name!r}, and there is no mix any more: write"
                f" {measure_names.OF_SERVED + name.removeprefix('mix/')!r}"
            )
    return [name.removeprefix(measure_names.OF_SERVED) for name in limits]


def _check_measures(
    key: str, measures: list[str], allowed: list[str], evaluation: EvaluationConfig
) -> None:
    for name in measures:
        if name in allowed:
            continue
        rule = f"a measure with a k of evaluation.ks = {list(evaluation.ks)}"
        if "/" in name:
            rule += f" and a slice, one of {', '.join(measure_names.names(SLICES))}"
        raise ValueError(f"{key} names {rule}, found {name!r}{_hint(name, allowed, evaluation)}")


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
