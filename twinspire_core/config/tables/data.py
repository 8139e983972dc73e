"""The tables that describe the logs, and say which part of them is used: `source`, `columns`, `window`,
`vocabulary`, `corpus`, `statistics`.
"""

from datetime import timedelta
from typing import Literal

from pydantic import Field, field_validator

from twinspire_core.config.tables.base import BASIC, Duration, Place, Strict

# The largest factor of a reward: float32 has 7 digits.
_LARGEST_FACTOR = 1_000_000


class SourceConfig(Strict):
    """Where the logs are. `{date}` stands for the day, as in 2017-10-16."""

    events: Place = Field(
        description="Folder of one day's events, with `{date}`. Local path or `gs://`.",
        json_schema_extra=BASIC,
    )
    items: Place | None = Field(
        None, description="Folder of an items snapshot, with `{date}`.", json_schema_extra=BASIC
    )
    users: Place | None = Field(
        None, description="Folder of a users snapshot, with `{date}`.", json_schema_extra=BASIC
    )
    format: Literal["auto", "parquet", "jsonl", "csv"] = Field(
        "auto", description="`auto` uses the file's ending, before any `.gz`."
    )
    done_marker: str | None = Field(
        None, description="A file in a day's folder that marks the day as complete: `_SUCCESS`."
    )
    wait: Duration = Field(
        timedelta(0), description="How long a run waits for a late day: `15m`, `6h`."
    )
    min_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description=(
            "A day stops when it has fewer rows than this share of the median of the last 7 same weekdays."
        ),
    )
    max_rejected: float = Field(
        0.01,
        ge=0,
        le=1,
        description="A day stops when more than this share of records is malformed.",
    )
    max_user_events: int = Field(
        10_000,
        ge=1,
        description=(
            "The most events of one user and day that are read, the first in the logs. Further ones, as"
            " of a crawler, are counted and ignored."
        ),
    )
    late_days: int = Field(
        0,
        ge=0,
        description=(
            "How many later folders to search for events that belong to this day. Later arrivals are"
            " counted and ignored."
        ),
    )

    @field_validator("events", "items", "users")
    @classmethod
    def _has_date(cls, value: str | None) -> str | None:
        if value is not None and "{date}" not in value:
            raise ValueError(
                f"a folder per day is named with {{date}}, as in …/dt={{date}}/; found {value!r}"
            )
        return value


class ColumnsConfig(Strict):
    """Names of the columns in the events, and of the keys in the snapshots."""

    user: str = Field(description="Who: the user's id.", json_schema_extra=BASIC)
    item: str = Field(description="What: the item's id.", json_schema_extra=BASIC)
    time: str = Field(
        description="When: a timestamp, an ISO string or an integer.", json_schema_extra=BASIC
    )
    time_unit: Literal["s", "ms", "us"] = Field(
        "s", description="Unit of an integer time (since 1970, UTC)."
    )
    reward: str | None = Field(
        None,
        description="Column with the weight of an example, 0 or more; without one all weigh 1.",
    )
    reward_clip: tuple[float, float] = Field(
        (0.0, 10.0), description="Rewards are clipped to this range, before `weights` apply."
    )
    event: str | None = Field(None, description="The event's type.", json_schema_extra=BASIC)
    positives: tuple[str, ...] = Field(
        (),
        description="Event types that count as positives; all when empty.",
        json_schema_extra=BASIC,
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        description=(
            "Factor of the reward by event type, 1 if not listed: `{ purchase = 3.0 }`. An event with"
            " factor 0 is used only as a negative of others, and still enters histories, counts and"
            " measures."
        ),
    )
    label: str | None = Field(
        None,
        description=(
            "Column with a number that `train.auxiliary` learns: a rating, the share watched. It may be"
            " empty."
        ),
    )
    items_key: str | None = Field(
        None, description="Column of the item's id in the items snapshot; by default `item`."
    )
    users_key: str | None = Field(
        None, description="Column of the user's id in the users snapshot; by default `user`."
    )

    @field_validator("weights")
    @classmethod
    def _are_factors(cls, value: dict[str, float]) -> dict[str, float]:
        for kind, factor in value.items():
            if not 0 <= factor <= _LARGEST_FACTOR:
                raise ValueError(
                    f"a factor is a number from 0 to {_LARGEST_FACTOR:,}, found {factor:g} for"
                    f" {kind!r}"
                )
        return value


class WindowConfig(Strict):
    """How far a day looks back. Histories and counts cover the days before the day that uses them, and
    histories are continued during that day; vocabulary and training days include the day itself.
    """

    history_days: int = Field(
        30,
        ge=1,
        description="Days before the request whose events may enter its history, and give an id its own row.",
        json_schema_extra=BASIC,
    )
    count_days: int = Field(
        14,
        ge=1,
        description=(
            "Days before the request that `age` and popularity look at; the most days of a `count`."
        ),
    )
    personal_days: int | None = Field(
        None,
        ge=1,
        description=(
            "Days before the request whose events sources count for a user; by default"
            " `window.history_days`. More days take more time, as they have to be read."
        ),
    )
    train_days: int = Field(
        30,
        ge=1,
        description="Days of training from scratch, including the last.",
        json_schema_extra=BASIC,
    )


class VocabularyConfig(Strict):
    """Which ids get embeddings of their own."""

    min_events: int = Field(
        2,
        ge=1,
        description="Events within the `window.history_days` up to a day that give an id its own row.",
    )


class CorpusConfig(Strict):
    """The items that can be recommended."""

    filter: dict[str, tuple[str | int | float | bool, ...]] = Field(
        default_factory=dict,
        description="Only items whose column holds one of the values: `{ in_stock = [true] }`.",
    )
    days: int = Field(
        7,
        ge=1,
        description="Without an items source: items with an event in the last `days` days.",
    )
    unlisted: bool = Field(
        False, description="Include items that have events but no row in the items snapshot."
    )
    display: tuple[str, ...] = Field(
        (), description="Columns of items shown to people; the first is the name."
    )
    attributes: tuple[str, ...] = Field(
        (), description="Columns of items that requests may filter by."
    )


class StatisticsConfig(Strict):
    """Data validation: when the day's statistics are anomalous, and what happens then."""

    on_anomaly: Literal["ignore", "warn", "fail"] = Field(
        "warn", description="`fail` stops the feature job, exit 3."
    )
    max_drift: float = Field(
        0.3,
        ge=0,
        description=(
            "Largest drift of a column's values since the day before: L-infinity distance of a category,"
            " Jensen-Shannon divergence of a number."
        ),
    )
