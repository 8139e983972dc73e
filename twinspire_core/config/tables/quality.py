"""The tables that say what is measured and what is recommended: `evaluation`, `mix`, `ranking`."""

from typing import Annotated

from pydantic import Field, field_validator

from twinspire_core.config.source_names import (
    CO_OCCURRENCE,
    FITTED,
    PERSONAL,
    TWO_TOWER,
    SourceName,
)
from twinspire_core.config.tables.base import Strict


class EvaluationConfig(Strict):
    """What is measured."""

    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field((10, 50, 100), description="List lengths.")
    max_users: int = Field(10_000, ge=1, description="The most users measured.")
    holdout: float = Field(
        0.1, ge=0, lt=1, description="Share of users held out of a day's training, at most 10,000."
    )


class FusionConfig(Strict):
    """Which sources propose items. The ranker orders these, or the fixed order by its weights."""

    sources: tuple[SourceName, ...] = Field(
        ("two_tower", "past", "popular_lately", "most_popular", "co_occurrence"),
        description=("Their names. With none the two-tower serves alone."),
    )

    @field_validator("sources")
    @classmethod
    def _distinct(cls, value: tuple[SourceName, ...]) -> tuple[SourceName, ...]:
        twice = [name for place, name in enumerate(value) if name in value[:place]]
        if twice:
            raise ValueError(f"each source is named once, found {twice[0]!r} more than once")
        return value

    @property
    def candidates(self) -> tuple[SourceName, ...]:
        """The sources that candidates come from, one at least."""
        return self.sources or (TWO_TOWER,)

    def uses(self, source: SourceName) -> bool:
        """Whether a source is used, so that what it is made of has to be counted."""
        return source in self.sources

    @property
    def uses_co_occurrence(self) -> bool:
        """Whether items that the same users took are counted."""
        return self.uses(CO_OCCURRENCE)

    @property
    def uses_sequences(self) -> bool:
        """Whether a source is fitted on what each user took, event by event."""
        return any(self.uses(source) for source in FITTED)

    @property
    def uses_personal_counts(self) -> bool:
        """Whether a source goes by decayed counts of what the user had before."""
        return self.uses(PERSONAL) or self.uses_sequences


class RankingConfig(Strict):
    """The ranker: trees that order what the sources list, by more than places. They are fitted each
    day on lists of versions that had not seen the days they are for, and serve unless the gate finds
    them surely below the fixed order.
    """

    enabled: bool = Field(
        False,
        description=(
            "Fit a ranker each day. It serves unless it is surely below the fixed order, or a source"
            " alone, over the last 7 to 28 days; `twinspire status` says so."
            " Users' counts of what they had before are then made with several half-lives, as for the"
            " source `personal`: `serving.user_store` brings them to the server."
        ),
    )
