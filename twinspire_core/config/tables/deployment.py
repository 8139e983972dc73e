"""The tables that say where the stages run, and where versions go: `pipeline`, `index`, `registry`,
`serving`, `lists`, `notify`, `beam`.
"""

from datetime import timedelta
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import BeforeValidator, Field, field_validator

from twinspire_core.config.tables.base import BASIC, Duration, Place, Strict
from twinspire_core.errors import did_you_mean
from twinspire_core.metrics.measure_names import EXCLUDED, KEPT


class PipelineConfig(Strict):
    """The only table that the DAGs read."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$",
        max_length=100,  # it is part of names of files, which have 255 at most
        description="Name of the recommender, its DAG and its folders.",
        json_schema_extra=BASIC,
    )
    time_zone: str = Field(
        "UTC",
        description="IANA name; a day is a calendar day of this zone.",
        json_schema_extra=BASIC,
    )
    schedule: str = Field(
        "0 0 * * *", description="Cron of the daily run, in `time_zone`.", json_schema_extra=BASIC
    )
    deadline: Duration | None = Field(
        None,
        description=(
            "In Airflow: somebody is told (`notify.command`, event `late_day`) when a scheduled run"
            " has not ended well so long after `schedule` began it, `6h` say."
        ),
    )
    retries: int = Field(3, ge=0, description="How often a stage that asks to be tried again is.")
    work_root: Place = Field(
        "work",
        description="Working files of the stages. Local path or `gs://`.",
        json_schema_extra=BASIC,
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            hint = did_you_mean(value, available_timezones(), "; ")
            raise ValueError(f"not an IANA time zone: {value!r}{hint}")
        return value


class IndexConfig(Strict):
    """How nearest neighbours are found."""

    recall_target: float = Field(
        0.98, gt=0, le=1, description="Share of the exact neighbours that must be found."
    )


class RegistryConfig(Strict):
    """Where versions are published, and how long things are kept."""

    root: Place = Field("registry", description="Local path or `gs://`.", json_schema_extra=BASIC)
    keep_versions: int = Field(14, ge=1, description="Versions kept by `prune`.")
    keep_days: int = Field(
        30, ge=1, description="Days kept by `prune`, back from the newest that was run."
    )
    max_age: Duration = Field(
        timedelta(days=2),
        description=(
            "`twinspire status --check` fails when the day of the live version ended longer ago."
        ),
    )
    server: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description=(
            "Address of a server of this recommender, `https://recommend.example.com`: Airflow's runs"
            " link to the report that it shows."
        ),
    )


def _is_store(value: object) -> object:
    """Says in one sentence what pydantic says of each of two types."""
    if isinstance(value, bool) or (isinstance(value, int) and value >= 1):
        return value
    raise ValueError(f"true, false, or a number of users, 1 or more; found {value!r}")


class ServingConfig(Strict):
    """What a version carries for serving, and which lists it is there for."""

    exclude_seen: bool = Field(
        False,
        description=(
            "Leave out what the user took before: films yes, groceries no. The ranker is fitted"
            " for such lists, the gate judges them, and the server gives them where a request does"
            " not say. Reports show both kinds."
        ),
        json_schema_extra=BASIC,
    )

    user_store: Annotated[bool | Annotated[int, Field(ge=1)], BeforeValidator(_is_store)] = Field(
        False,
        description=(
            "Carry users' features and last items. Personal data, hence a switch. A number: only so"
            " many users, those seen last; the others are answered like new ones."
        ),
        json_schema_extra=BASIC,
    )
    tensorflow: bool = Field(
        True,
        description=(
            "Carry a SavedModel for TensorFlow Serving: the query tower and the vectors once more."
        ),
    )

    @property
    def counted_lists(self) -> str:
        """Which kind of lists counts, `KEPT` or `EXCLUDED`."""
        return EXCLUDED if self.exclude_seen else KEPT


class ListsConfig(Strict):
    """Rules on the lists that are served, of the ranker, the fixed order and the two-tower; none by
    default.
    Every command reads them from this file, so a change needs no new version; a server reads them when
    it starts. The gate and the report measure lists without them.
    """

    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description=(
            "At most so many items of a list with the same value of an attribute:"
            " `{ department = 5 }`. Attributes are those of `corpus.attributes`; of one that holds"
            " lists every entry counts, and an item without a value is free."
        ),
    )
    new_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "At least this share of a list is new to the user, and of its first 1, 2, 3 … items too,"
            " each rounded down: items that neither the version nor the request knows the user to"
            " have had."
        ),
    )

    @property
    def hold(self) -> bool:
        """Whether there is any rule."""
        return bool(self.caps or self.new_share)


class BeamConfig(Strict):
    """Where the feature and embed jobs run."""

    options: tuple[str, ...] = Field(
        (), description="Passed to Beam as they are: `--runner=FlinkRunner`, …"
    )
    shards: int = Field(
        16,
        ge=1,
        description=(
            "Parts of the users, by a hash, that the features job works on: as many workers are busy"
            " at once, and each holds the events of one part. What is made does not depend on it."
        ),
    )


class NotifyConfig(Strict):
    """Who is told when a day needs somebody."""

    command: str | None = Field(
        None,
        description=(
            "A shell command, run when a day fails, is refused, has late or missing logs, or leaves"
            " a gap, and when `status --check` finds something wrong. Its standard input is a JSON"
            " object: `event`, `pipeline`, `day`, `stage`, `exit_code`, `reason`, `command`. Secrets"
            " belong in its environment."
        ),
    )
