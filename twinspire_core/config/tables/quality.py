"""The tables that say what is measured and what is recommended: `evaluation`, `sources`."""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from twinspire_core.config.source_names import (
    CO_OCCURRENCE,
    FACTORS,
    HISTORY,
    NEIGHBOURS,
    POPULAR,
    REMOVED,
    TWO_TOWER,
    SourceName,
)
from twinspire_core.config.tables.base import Strict


def _named_as_now(value: object) -> object:
    """Names of sources; a name that a source once had is an error that tells the present one."""
    if isinstance(value, list | tuple):
        for name in value:
            if isinstance(name, str) and name in REMOVED:
                raise ValueError(f"there is no source {name!r} any more: write {REMOVED[name]!r}")
    return value


class EvaluationConfig(Strict):
    """What is measured."""

    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field((10, 50, 100), description="List lengths.")
    holdout: float = Field(
        0.1, ge=0, lt=1, description="Share of users held out of a day's training, at most 10,000."
    )


class SourcesConfig(Strict):
    """What is recommended: items that several sources propose, in the order of a ranker, which is fitted
    each day; of a fixed order until there is one.
    """

    use: Annotated[tuple[SourceName, ...], BeforeValidator(_named_as_now)] = Field(
        (TWO_TOWER, HISTORY, POPULAR, CO_OCCURRENCE),
        min_length=1,
        description=(
            "The sources. `history`: what the user took before. `popular`: what everybody takes."
            " `co_occurrence`: what others took with that. `neighbours`: what similar users took, only"
            " with `serving.user_store`, as a version then holds lists of single users. `factors`:"
            " matrix factorisation. With `two_tower` alone there is no ranker."
        ),
    )

    @field_validator("use")
    @classmethod
    def _distinct(cls, value: tuple[SourceName, ...]) -> tuple[SourceName, ...]:
        twice = [name for place, name in enumerate(value) if name in value[:place]]
        if twice:
            raise ValueError(f"each source is named once, found {twice[0]!r} more than once")
        return value

    @property
    def fitted(self) -> tuple[SourceName, ...]:
        """The sources that are fitted on what each user took, event by event."""
        return tuple(name for name in self.use if name in (CO_OCCURRENCE, NEIGHBOURS, FACTORS))

    @property
    def several(self) -> bool:
        """Whether there is something to rank: then decayed counts are made of users and of items."""
        return self.use != (TWO_TOWER,)
