"""The tables that say where the stages run, and where versions go: `pipeline`, `index`, `registry`,
`serving`, `beam`.
"""

from difflib import get_close_matches
from zoneinfo import available_timezones

from pydantic import Field, field_validator

from twinspire_core.config.tables.base import ADDED, Strict
from twinspire_core.metrics.measure_names import EXCLUDED, KEPT


class PipelineConfig(Strict):
    """The only table that the DAGs read."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="Name of the recommender, its DAG and its folders.",
    )
    time_zone: str = Field("UTC", description="IANA name; a day is a calendar day of this zone.")
    schedule: str = Field("0 0 * * *", description="Cron of the daily run, in `time_zone`.")
    retries: int = Field(3, ge=0, description="How often a stage that asks to be tried again is.")
    work_root: str = Field(
        "work", description="Working files of the stages. Local path or `gs://`."
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            hint = get_close_matches(value, available_timezones(), 1)
            raise ValueError(
                f"not an IANA time zone: {value!r}"
                + (f"; did you mean {hint[0]!r}?" if hint else "")
            )
        return value


class IndexConfig(Strict):
    """How nearest neighbours are found."""

    k: int = Field(100, ge=1, description="Neighbours at which recall is measured.")
    recall_target: float = Field(
        0.98, gt=0, le=1, description="Share of the exact neighbours that must be found."
    )
    exact_below: int = Field(10_000, ge=0, description="Smaller corpora are searched exactly.")
    tree_above: int = Field(
        100_000,
        ge=0,
        description=(
            "Larger ones are always partitioned; for smaller ones a scan of all codes is tried too."
        ),
    )


class RegistryConfig(Strict):
    """Where versions are published, and how long things are kept."""

    root: str = Field("registry", description="Local path or `gs://`.")
    keep_versions: int = Field(14, ge=1, description="Versions kept by `prune`.")
    keep_days: int = Field(30, ge=1, description="Days of working files kept by `prune`.")


class ServingConfig(Strict):
    """What a version carries for serving, and which lists it is there for."""

    exclude_seen: bool = Field(
        False,
        json_schema_extra=ADDED,
        description=(
            "Leave out what the user took before: films yes, groceries no. The mix is fitted for"
            " such lists, the gate judges them, and the server gives them where a request does not"
            " say. Reports show both kinds."
        ),
    )

    user_store: bool = Field(
        False, description="Carry users' features and last items. Personal data, hence a switch."
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


class BeamConfig(Strict):
    """Where the feature and embed jobs run."""

    options: tuple[str, ...] = Field(
        (), description="Passed to Beam as they are: `--runner=FlinkRunner`, …"
    )
    shards: int = Field(16, ge=1, description="Hashed user shards of the shuffle.")
    batch_rows: int = Field(20_000, ge=1, description="Rows of an Arrow batch.")
