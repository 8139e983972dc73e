"""The tables of a pipeline file, one class each. docs/pipeline-file.md is made from these."""

import re
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import BeforeValidator, Field, field_validator

from twinspire_core.config.feature_kinds import ADDED, Strict, was

_DURATION = re.compile(r"^(\d+)\s*(s|m|h|d)$")


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = _DURATION.match(value)
    if not found:
        raise ValueError(f"a duration is a number with a unit (90s, 15m, 6h, 2d), found {value!r}")
    return timedelta(seconds=int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]])


Duration = Annotated[timedelta, BeforeValidator(_duration)]
_LARGEST = 1_000_000
"""The largest factor of a reward: float32 has room for no more than 7 digits."""


class SourceConfig(Strict):
    """Where the logs lie. `{date}` stands for the day, as 2017-10-16."""

    events: str = Field(
        description="Folder of one day's events, with `{date}`. Local path or `gs://`."
    )
    items: str | None = Field(None, description="Folder of an items snapshot, with `{date}`.")
    users: str | None = Field(None, description="Folder of a users snapshot, with `{date}`.")
    format: Literal["auto", "parquet", "jsonl", "csv"] = Field(
        "auto", description="`auto` goes by the file's ending; `.gz` is understood."
    )
    done_marker: str | None = Field(
        None, description="A file whose presence says that a day is complete: `_SUCCESS`."
    )
    wait: Duration = Field(
        timedelta(0), description="How long a late day is waited for: `15m`, `6h`."
    )
    min_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description=(
            "A day with fewer rows than this share of the last 7 same weekdays' median stops."
        ),
    )
    max_rejected: float = Field(
        0.01, ge=0, le=1, description="The share of malformed records that is put up with."
    )
    max_user_events: int = Field(
        10_000,
        ge=1,
        json_schema_extra=ADDED,
        description=(
            "Events of one user and day that are read, the first in the logs; more, of a crawler,"
            " are counted and left out."
        ),
    )
    late_days: int = Field(
        0,
        ge=0,
        json_schema_extra=ADDED,
        description=(
            "How many days late events may come: a day's events are those of its folder and, of its"
            " calendar day, those of so many folders after it that are there when the day is run."
            " Others are counted and left out."
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

    user: str = Field(description="Who: the user's id.")
    item: str = Field(description="What: the item's id.")
    time: str = Field(description="When: a timestamp, an ISO string or an integer.")
    time_unit: Literal["s", "ms", "us"] = Field(
        "s", description="Unit of an integer time (since 1970, UTC)."
    )
    reward: str | None = Field(
        None, description="Weight of the example, 0 or more; 1 when not declared."
    )
    reward_clip: tuple[float, float] = Field(
        (0.0, 10.0), description="Rewards are cut to this range, before `weights` apply."
    )
    event: str | None = Field(None, description="The event's type.")
    positives: tuple[str, ...] = Field(
        (), description="Event types that count as positives; all when empty."
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        description=(
            "Factor of the reward by event type, 1 if not listed: `{ purchase = 3.0 }`. With 0 an"
            " event is no more than a negative of others; it still counts for histories, counts and"
            " measures."
        ),
    )
    label: str | None = Field(
        None,
        description=(
            "A number that `train.auxiliary` learns: a rating, the share watched. Missing where"
            " there is none."
        ),
    )
    items_key: str | None = Field(
        None, description="The item's id in the items snapshot; as in the events by default."
    )
    users_key: str | None = Field(
        None, description="The user's id in the users snapshot; as in the events by default."
    )

    @field_validator("weights")
    @classmethod
    def _are_factors(cls, value: dict[str, float]) -> dict[str, float]:
        for kind, factor in value.items():
            if not 0 <= factor <= _LARGEST:
                raise ValueError(
                    f"a factor is a number from 0 to {_LARGEST:,}, found {factor:g} for {kind!r}"
                )
        return value


class WindowConfig(Strict):
    """How far a day looks back. Histories and counts are of the days before the one they are used
    on, and a history goes on during that day; vocabulary and training days include the day itself.
    """

    history_days: int = Field(
        30, ge=1, description="Days before the request whose events may enter its history."
    )
    count_days: int = Field(
        14,
        ge=1,
        description=(
            "Days before the request that `age` and popularity look at, and `count` at the most."
        ),
    )
    vocabulary_days: int = Field(
        30, ge=1, description="Days whose events give an id its own row, the last included."
    )
    train_days: int = Field(
        30, ge=1, description="Days trained on from scratch, the last included."
    )


class VocabularyConfig(Strict):
    """Which ids get rows of their own."""

    min_events: int = Field(
        2, ge=1, description="Events within `window.vocabulary_days` before an id enters."
    )
    keep_days: int | None = Field(
        None,
        ge=1,
        description="Days unseen after which an id leaves; `window.vocabulary_days` by default.",
    )
    max_size: int = Field(1_000_000, ge=1, description="The most ids, the most frequent first.")
    oov_buckets: int = Field(64, ge=1, description="Shared rows for the ids outside.")


class CorpusConfig(Strict):
    """The items that can be recommended."""

    filter: dict[str, tuple[str | int | float | bool, ...]] = Field(
        default_factory=dict,
        description="Only items whose column holds one of the values: `{ in_stock = [true] }`.",
    )
    days: int = Field(
        7, ge=1, description="Without an items source: items with an event in so many days."
    )
    unlisted: bool = Field(
        False, description="Also items that have events but no row in the items snapshot."
    )
    display: tuple[str, ...] = Field(
        (), description="Columns of items shown to people; the first is the name."
    )
    attributes: tuple[str, ...] = Field(
        (), description="Columns of items that requests may filter by."
    )


class FrequencyConfig(Strict):
    """The streaming estimate of how often an item is in a batch (section 3 of the paper)."""

    buckets: int = Field(
        1_000_000, ge=1, description="Size of each array; at least 5 times the items."
    )
    hashes: int = Field(
        2,
        json_schema_extra=was(1),
        ge=1,
        le=8,
        description=(
            "Independent hash functions, each with an array; the rarest of their answers counts."
        ),
    )
    alpha: float = Field(
        0.01, gt=0, le=1, description="Learning rate: larger follows faster and is noisier."
    )
    initial_gap: int | None = Field(
        None,
        json_schema_extra=ADDED,
        ge=1,
        description=(
            "Examples between two hits that are assumed of an item met once; by default as many as"
            " a day has, and at least 100,000."
        ),
    )


class NegativesConfig(Strict):
    """The items that a positive is held against. They add up; each is corrected by its chance of
    being there.
    """

    in_batch: Literal["all", "random", "hard", "semi_hard"] = Field(
        "all",
        description=(
            "The batch's other items: all, or per row `k` of them: at random, those of the highest"
            " scores, or some of a band of scores. The last two are biased: the correction cannot"
            " know how they were picked."
        ),
    )
    k: int = Field(100, ge=1, description="Items of the batch kept per row, unless all are.")
    ranks: tuple[int, int] = Field(
        (100, 500), description="`semi_hard`: the band, by rank from the best, 0 being it."
    )
    scores: tuple[float, float] | None = Field(
        None, description="`semi_hard`: the band by cosine instead of rank."
    )
    uniform: int = Field(
        0, ge=0, description="Items drawn anew each step from the day's catalogue, evenly."
    )
    memory: int = Field(
        0,
        ge=0,
        description="Items of earlier batches, as they were encoded then; the newest so many.",
    )
    memory_after: int = Field(
        1_000, ge=0, description="Steps before `memory` sets in: young vectors age fast."
    )
    mask_positives: bool = Field(
        False,
        description=(
            "What the same user took elsewhere in the batch is no negative. For baskets and"
            " playlists: rows of one user and time then stand together, up to a 64th of a batch,"
            " and share the work of their history."
        ),
    )


class HistoryEncoderConfig(Strict):
    """How a history becomes one vector."""

    pooling: Literal["mean", "sqrtn", "recency", "attention"] = Field(
        "mean",
        description=(
            "`sqrtn`: the sum over the root of its length, so that long histories are not drowned"
            " by what all users share; `recency`: newer items weigh more; `attention`: causal"
            " self-attention, order matters."
        ),
    )
    half_life: float = Field(
        10.0, gt=0, description="`recency`: items after which a weight has halved."
    )
    layers: int = Field(2, ge=1, description="`attention`: its layers.")
    heads: int = Field(
        2,
        ge=1,
        description="`attention`: its heads; they divide the width of the items' embedding.",
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="`attention`: share of values dropped in training."
    )
    learning_rate: float = Field(0.001, gt=0, description="`attention`: Adam's, for its weights.")


class AuxiliaryConfig(Strict):
    """A second thing to learn from the same vectors: how much a taken item was liked
    (`columns.label`). A small head predicts the label from both vectors. It shapes them in training
    and does not change how items are ranked: lists are by the softmax's cosine.
    """

    weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Of its loss beside the softmax, both being means over the batch; 0 is off.",
    )
    loss: Literal["squared", "logistic"] = Field(
        "squared",
        description=(
            "`squared`, in units of the labels' standard deviation; `logistic` for labels from 0"
            " to 1."
        ),
    )


class TrainConfig(Strict):
    """The model and how it learns."""

    dimension: int = Field(64, ge=1, description="Width of the two vectors that are compared.")
    query_layers: tuple[int, ...] = Field(
        (),
        description=(
            "Hidden layers of the query tower; none did better on both data sets that were tried."
        ),
    )
    item_layers: tuple[int, ...] = Field((), description="Hidden layers of the item tower.")
    temperature: float = Field(0.15, gt=0, description="Divides the cosine before the softmax.")
    skip: bool = Field(
        True,
        description=(
            "Add the item's embedding and the history's past the layers, where widths allow it."
        ),
    )
    history: HistoryEncoderConfig = Field(
        default_factory=HistoryEncoderConfig, description="How a history becomes one vector."
    )
    correction: Literal["none", "batch", "expected_count"] = Field(
        "batch",
        description=(
            "`batch` is the paper's log p; `expected_count` leaves the positive alone and weighs"
            " each negative by how often it is expected; `none` is plain."
        ),
    )
    frequency: FrequencyConfig = Field(
        default_factory=FrequencyConfig, description="The frequency estimate."
    )
    negatives: NegativesConfig = Field(
        default_factory=NegativesConfig, description="What positives are held against."
    )
    auxiliary: AuxiliaryConfig = Field(
        default_factory=AuxiliaryConfig, description="A second objective."
    )
    learning_rate: float = Field(0.1, gt=0, description="Adagrad's.")
    batch_size: int = Field(
        256,
        ge=2,
        description=(
            "Examples, and so negatives, per step. Large logs want thousands, and train faster so."
        ),
    )
    epochs: int = Field(
        3, ge=1, description="Passes from scratch over the window's days. Large logs need one."
    )
    warm_epochs: int = Field(
        1,
        ge=1,
        description=(
            "Passes over the day when training goes on. More fit its few users at everybody's cost."
        ),
    )
    shuffle_minutes: int = Field(
        60, ge=0, description="`time`: rows are shuffled within blocks of so many minutes."
    )
    order: Literal["time", "shuffled"] = Field(
        "time",
        description=(
            "`shuffled`: from scratch over the whole window, which is then held in memory, else"
            " over the day; for wishes that hardly change meanwhile."
        ),
    )
    id_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of ids replaced by their shared row, so that it suits newcomers.",
    )
    seed: int = Field(0, ge=0, description="Of initial weights, shuffling and dropout.")
    deterministic: bool = Field(False, description="Bit-equal weights on a rerun, slower.")
    wait: Duration = Field(
        timedelta(hours=6),
        description="How long a day waits for unfinished earlier ones while none of them ends.",
    )


class EvaluationConfig(Strict):
    """What is measured."""

    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field((10, 50, 100), description="List lengths.")
    holdout: float = Field(
        0.1, ge=0, lt=1, description="Share of users held out of a day's training, at most 10,000."
    )
    max_users: int = Field(10_000, ge=1, description="The most users measured.")
    lately_days: int = Field(1, ge=1, description="Days of the baseline `popular lately`.")
    slices: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 5, 20),
        description=(
            "Users and items are told apart by earlier events: none, fewer than 5, than 20, more."
        ),
    )
    resamples: int = Field(
        200, ge=0, description="Bootstrap resamples behind the intervals; 0 for none."
    )
    als: bool = Field(
        False,
        description=(
            "Also measure matrix factorisation: implicit's ALS as it comes, untuned. Needs `pip"
            " install 'twinspire[als]'`."
        ),
    )

    @field_validator("slices")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(
                f"slices begin one after the other, as [1, 5, 20] do; found {list(value)}"
            )
        return value


Nominator = Literal["two_tower", "past", "popular_lately", "most_popular", "co_occurrence"]


class FusionConfig(Strict):
    """What is recommended: the two-tower's items, mixed with those of simpler sources. Weights are
    fitted each day, on lists of versions that had not seen it.
    """

    sources: tuple[Nominator, ...] = Field(
        ("two_tower", "past", "popular_lately", "most_popular", "co_occurrence"),
        description=(
            "What is mixed. With none, or until enough users were there to fit on, the two-tower"
            " serves alone."
        ),
    )
    neighbours: int = Field(
        50, ge=1, description="`co_occurrence`: items kept for each item, the nearest."
    )
    min_users: int = Field(
        100,
        ge=1,
        description="Users needed to fit on. A slice of fewer has the weights of all users.",
    )

    @property
    def pairs(self) -> bool:
        """Whether items taken together are counted."""
        return "co_occurrence" in self.sources


Share = Annotated[float, Field(ge=0, le=1)]


class GateConfig(Strict):
    """What a version must reach to go live."""

    metric: str = Field(
        "recall@50", description="Compared with the newest accepted version's, on the same users."
    )
    max_drop: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "The relative loss that is put up with. More is refused, unless its paired 95% interval"
            " reaches up to no loss: then it may be chance."
        ),
    )
    max_slice_drop: float = Field(
        0.2,
        ge=0,
        le=1,
        description=(
            "The same in each slice of users (`evaluation.slices`); refused when the whole interval"
            " is beyond. 1 for never."
        ),
    )
    max_lead_drop: float = Field(
        1.0,
        ge=0,
        le=1,
        description=(
            "The same of the lead over the items that the day's other users took most, against the"
            " median of up to seven versions before; refused when the whole interval is also below"
            " all of theirs. For logs that change by the day, like news, where a baseline that saw"
            " nothing of it is easily beaten: 0.3. 1 for never."
        ),
    )
    min_users: int = Field(
        200,
        ge=1,
        description=(
            "Held-out users needed for a comparison, and in a slice to judge that: of fewer, a"
            " note."
        ),
    )
    floors: dict[str, Share] = Field(
        default_factory=dict,
        description=(
            "Least values by measure, of a slice too: `{ 'recall@50' = 0.05, 'recall@50/users:0' ="
            " 0.01 }`. They hold for the two-tower and for the mix; one named `mix/recall@50` for"
            " the mix alone, in place of that."
        ),
    )
    ceilings: dict[str, Share] = Field(
        default_factory=dict,
        description=(
            "Largest values of what should be small: `{ 'gini@50' = 0.95, 'overlap@50' = 0.5, "
            "'mix/overlap@50' = 0.7, 'popular_share@50' = 0.6 }`."
        ),
    )
    max_corpus_change: float = Field(
        0.5, ge=0, description="Relative change of the corpus size that is put up with."
    )


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
    """What a version carries for serving."""

    user_store: bool = Field(
        False, description="Carry users' features and last items. Personal data, hence a switch."
    )
    tensorflow: bool = Field(
        True,
        description=(
            "Carry a SavedModel for TensorFlow Serving: the query tower and the vectors once more."
        ),
    )


class StatisticsConfig(Strict):
    """Data validation: when the day's statistics are anomalous, and what then."""

    on_anomaly: Literal["ignore", "warn", "fail"] = Field(
        "warn", description="`fail` stops the feature job, exit 3."
    )
    max_linf: float = Field(
        0.3, ge=0, description="L-infinity distance of a category's shares from the day before."
    )
    max_js: float = Field(
        0.3, ge=0, description="Jensen-Shannon divergence of a number from the day before."
    )
    max_null_change: float = Field(
        0.2, ge=0, le=1, description="Change of the share of missing values."
    )
    max_unknown: float = Field(
        0.5, ge=0, le=1, description="Share of values that no earlier day had."
    )
    max_volume_change: float = Field(
        0.8,
        ge=0,
        description=(
            "Change of the number of rows, as a share of the larger one: 0.8 is a factor of 5."
        ),
    )


class BeamConfig(Strict):
    """Where the feature and embed jobs run."""

    options: tuple[str, ...] = Field(
        (), description="Passed to Beam as they are: `--runner=FlinkRunner`, …"
    )
    shards: int = Field(16, ge=1, description="Hashed user shards of the shuffle.")
    batch_rows: int = Field(20_000, ge=1, description="Rows of an Arrow batch.")


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
