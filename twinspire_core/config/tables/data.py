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
        description="Folder of one day's events, with `{date}`. Local path, `gs://`, `s3://` or `az://`.",
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
            "A day is refused if it has fewer rows than this share of the usual number, the"
            " median of the last 7 same weekdays."
        ),
    )
    max_rejected: float = Field(
        0.01,
        ge=0,
        le=1,
        description="A day is refused if more than this share of its records is malformed.",
    )
    # Bounds what one crawler makes a worker hold in memory (docs/decisions/0008-feature-job.md).
    max_user_events: int = Field(
        10_000,
        ge=1,
        description=(
            "How many events of one user are read per day: the first in the logs. Further"
            " events, for example of a crawler, are counted and ignored."
        ),
    )
    late_days: int = Field(
        0,
        ge=0,
        description=(
            "How many folders of later days are searched for events of a day. Events that"
            " arrive even later are counted and ignored."
        ),
    )

    @field_validator("events", "items", "users")
    @classmethod
    def _has_date(cls, value: str | None) -> str | None:
        if value is not None and "{date}" not in value:
            raise ValueError(
                f"the path must contain {{date}}, as in …/dt={{date}}/; found {value!r}"
            )
        return value


class ColumnsConfig(Strict):
    """Names of the columns in the events, and of the keys in the snapshots."""

    user: str = Field(description="The user's id.", json_schema_extra=BASIC)
    item: str = Field(description="The item's id.", json_schema_extra=BASIC)
    time: str = Field(
        description="The time of the event: a timestamp, an ISO string or an integer.",
        json_schema_extra=BASIC,
    )
    time_unit: Literal["s", "ms", "us"] = Field(
        "s", description="Unit of an integer time (since 1970, UTC)."
    )
    reward: str | None = Field(
        None,
        description=(
            "Column with the weight of an example (0 or more). Without it, every example has"
            " weight 1."
        ),
    )
    reward_clip: tuple[float, float] = Field(
        (0.0, 10.0), description="Rewards are clipped to this range before `weights` are applied."
    )
    event: str | None = Field(None, description="The event's type.", json_schema_extra=BASIC)
    positives: tuple[str, ...] = Field(
        (),
        description="Event types that count as positives. If empty, all types do.",
        json_schema_extra=BASIC,
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        description=(
            "The reward is multiplied by this factor of the event type. Types that are not"
            " listed have factor 1: `{ purchase = 3.0 }`. An event with factor 0 is used in"
            " training only as a negative. It still counts in histories, counts and measures."
        ),
    )
    label: str | None = Field(
        None,
        description=(
            "Column with a number that `train.auxiliary` learns to predict, such as a rating"
            " or the share watched. Values may be missing."
        ),
    )
    items_key: str | None = Field(
        None,
        description="Column with the item's id in the items snapshot. Default: the value of `item`.",
    )
    users_key: str | None = Field(
        None,
        description="Column with the user's id in the users snapshot. Default: the value of `user`.",
    )

    @field_validator("weights")
    @classmethod
    def _are_factors(cls, value: dict[str, float]) -> dict[str, float]:
        for kind, factor in value.items():
            if not 0 <= factor <= _LARGEST_FACTOR:
                raise ValueError(
                    f"a factor must be a number from 0 to {_LARGEST_FACTOR:,}; found {factor:g} for"
                    f" {kind!r}"
                )
        return value


class WindowConfig(Strict):
    """How far a day looks back. Histories and counts cover the days before the day that uses them.
    Histories also include earlier events of that day. The vocabulary and the training days include
    the day itself.
    """

    history_days: int = Field(
        30,
        ge=1,
        description=(
            "Days before the request whose events are used for histories, and to decide which ids"
            " get their own embedding."
        ),
        json_schema_extra=BASIC,
    )
    count_days: int = Field(
        14,
        ge=1,
        description=(
            "Days before the request that `age` and popularity use. A `count` can have at"
            " most this many days."
        ),
    )
    personal_days: int | None = Field(
        None,
        ge=1,
        description=(
            "For how many days before the request sources count a user's events. Default:"
            " `window.history_days`. More days take longer to read."
        ),
    )
    train_days: int = Field(
        30,
        ge=1,
        description="Days that training from scratch uses, including the last.",
        json_schema_extra=BASIC,
    )


class VocabularyConfig(Strict):
    """Which ids get their own embedding."""

    min_events: int = Field(
        2,
        ge=1,
        description=(
            "How many events in the last `window.history_days` an id needs for its own embedding."
        ),
    )


class CorpusConfig(Strict):
    """The items that can be recommended."""

    filter: dict[str, tuple[str | int | float | bool, ...]] = Field(
        default_factory=dict,
        description=(
            "Only items whose column has one of these values can be recommended: `{ in_stock ="
            " [true] }`."
        ),
    )
    days: int | None = Field(
        None,
        ge=1,
        description=(
            "Only items with an event in the last `days` days. Default: 7 if there is no `source.items`, else"
            " all items of the snapshot."
        ),
    )
    unlisted: bool = Field(
        False, description="Include items that have events but no row in the items snapshot."
    )
    display: tuple[str, ...] = Field(
        (), description="Columns of items that pages show. The first is the item's name."
    )
    attributes: tuple[str, ...] = Field(
        (), description="Columns of items that requests may filter by."
    )

    @property
    def recent_days(self) -> int:
        """For how many days an item that no snapshot lists stays in the corpus after an event."""
        return self.days or 7


class StatisticsConfig(Strict):
    """Data validation: which statistics of a day are anomalous, and what happens then."""

    on_anomaly: Literal["ignore", "warn", "fail"] = Field(
        "warn", description="`fail` stops the feature job, exit 3."
    )
    max_drift: float = Field(
        0.3,
        ge=0,
        description=(
            "Largest allowed drift of a column's values since the day before: L-infinity"
            " distance of a category, Jensen-Shannon divergence of a number."
        ),
    )
