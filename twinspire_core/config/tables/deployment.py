"""The tables that say where the stages run, where versions go, and what these hold: `pipeline`, `index`, `registry`,
`serving`, `lists`, `notify`, `beam`.
"""

from datetime import timedelta
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import BeforeValidator, Field, field_validator

from twinspire_core.config.tables.base import BASIC, Duration, Place, Strict
from twinspire_core.errors import zone_hint
from twinspire_core.metrics.measure_names import EXCLUDED, KEPT


class PipelineConfig(Strict):
    """The only table that the DAGs read."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$",
        max_length=100,  # it is part of file names, which have at most 255 characters
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
            "In Airflow: `notify.command` is run (event `late_day`) if a scheduled run has"
            " not succeeded this long after its scheduled start: `6h`."
        ),
    )
    # The default is in twinspire/airflow/pipeline_files.py: only Airflow retries, without this package
    retries: int | None = Field(
        None,
        ge=0,
        description="How often Airflow retries a stage after a temporary error. Without it, 3 times.",
    )
    work_root: Place = Field(
        "work",
        validate_default=True,
        description="Working files of the stages. Local path, `gs://`, `s3://` or `az://`.",
        json_schema_extra=BASIC,
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            hint = zone_hint(value, available_timezones())
            raise ValueError(f"must be an IANA time zone; found {value!r}{hint}")
        return value


class IndexConfig(Strict):
    """The index of nearest neighbours."""

    recall_target: float = Field(
        0.98, gt=0, le=1, description="Share of the exact neighbours that a search must return."
    )


class RegistryConfig(Strict):
    """Where versions are published, and how long things are kept."""

    root: Place = Field(
        "registry",
        validate_default=True,
        description="Local path, `gs://`, `s3://` or `az://`.",
        json_schema_extra=BASIC,
    )
    keep_versions: int = Field(14, ge=1, description="Versions kept by `prune`.")
    keep_days: int = Field(
        30, ge=1, description="Days kept by `prune`, counted from the newest day that was run."
    )
    max_age: Duration = Field(
        timedelta(days=2),
        description=(
            "`twinspire status --check` fails if the day of the live version ended longer ago"
            " than this. `0d`: it may be of any age."
        ),
    )
    server: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description=(
            "Address of a server of this recommender, such as"
            " `https://recommend.example.com`. Runs in Airflow link to its reports."
        ),
    )


def _is_store(value: object) -> object:
    """Checks both types at once, for one message where pydantic would write one for each."""
    if isinstance(value, bool) or (isinstance(value, int) and value >= 1):
        return value
    raise ValueError(f"must be true, false, or a number of users (1 or more); found {value!r}")


class ServingConfig(Strict):
    """What a version stores for serving, and which lists it is made for."""

    exclude_seen: bool = Field(
        False,
        description=(
            "Leave out items that the user took before. Set it for films, for example, but"
            " not for groceries. The ranker is fitted for these lists, the gate judges them,"
            " and the server returns them by default. Reports show both kinds."
        ),
        json_schema_extra=BASIC,
    )

    user_store: Annotated[bool | Annotated[int, Field(ge=1)], BeforeValidator(_is_store)] = Field(
        False,
        description=(
            "Store users' features and last items in versions. This is personal data, so it"
            " is off by default. A number limits how many users are stored: those with the"
            " newest events. The others get the lists of new users."
        ),
        json_schema_extra=BASIC,
    )
    tensorflow: bool = Field(
        False,
        description=(
            "Store a SavedModel for TensorFlow Serving: a second copy of the query tower and the vectors."
        ),
    )

    @property
    def counted_lists(self) -> str:
        """Which kind of lists counts, `KEPT` or `EXCLUDED`."""
        return EXCLUDED if self.exclude_seen else KEPT


class ListsConfig(Strict):
    """Rules for the lists that are served by the ranker, the fixed order and the two-tower; none by default.
    Every command reads them from this file, so a change needs no new version; a server reads them when
    it starts. The gate and the report measure lists without them.
    """

    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description=(
            "How many items of a list may have the same value of an attribute in"
            " `corpus.attributes`: `{ department = 5 }`. If an attribute has lists, every"
            " entry counts. Items without a value are not limited."
        ),
    )
    new_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "Smallest share of new items in a list, and in its first 1, 2, 3 … items. An item"
            " is new if neither the version nor the request says that the user had it."
            " Numbers of items are rounded down."
        ),
    )

    @property
    def hold(self) -> bool:
        """Whether there is any rule."""
        return bool(self.caps or self.new_share)


class BeamConfig(Strict):
    """Where the feature and embed jobs run."""

    options: tuple[str, ...] = Field(
        (), description="Options that are passed to Beam: `--runner=FlinkRunner`, …"
    )
    shards: int = Field(
        16,
        ge=1,
        description=(
            "Into how many parts the features job divides the users. At most this many"
            " workers can work at the same time, and each keeps the events of one part in"
            " memory. The result does not depend on this number."
        ),
    )


class NotifyConfig(Strict):
    """Who is notified when a day needs attention."""

    command: str | None = Field(
        None,
        description=(
            "A shell command that is run when a day fails, is refused, has late or missing logs, or"
            " leaves a gap, and when `status --check` fails. Its standard input is a JSON object with"
            " `event`, `pipeline`, `day`, `stage`, `exit_code`, `reason`, `command`. Keep secrets in"
            " environment variables."
        ),
    )
