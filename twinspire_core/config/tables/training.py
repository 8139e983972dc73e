"""The table `train`: the model, its loss, and how it learns."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from twinspire_core.config.tables.base import BASIC, Duration, Strict


class FrequencyConfig(Strict):
    """The streaming estimate of how often an item appears in batches (section 3 of the paper)."""

    buckets: int = Field(
        1_000_000, ge=1, description="Size of each array; at least 5 times the items."
    )
    alpha: float = Field(
        0.01, gt=0, le=1, description="Learning rate: larger follows faster and is noisier."
    )


class NegativesConfig(Strict):
    """The negatives of a positive. Kinds of negatives add up; each is corrected by its probability."""

    in_batch: Literal["all", "random", "hard", "semi_hard"] = Field(
        "all",
        description=(
            "The batch's other items: all, or `k` of them for each row: at random; `hard`, those of the"
            " highest scores; `semi_hard`, some of the ranks 100 to 500. The last two are biased, as the"
            " correction cannot account for how they are picked."
        ),
    )
    k: int = Field(
        100, ge=1, description="Items of the batch kept per row, unless `in_batch` is `all`."
    )
    uniform: int = Field(
        0, ge=0, description="Items drawn uniformly from the day's catalogue at each step."
    )
    mask_positives: bool = Field(
        False,
        description=(
            "Items that the same user took elsewhere in the batch are no negatives. For baskets and"
            " playlists: rows of one user and time are then placed together, up to a 64th of a batch,"
            " and their history is encoded once."
        ),
    )


class HistoryEncoderConfig(Strict):
    """How a history becomes one vector."""

    pooling: Literal["mean", "sqrtn", "attention"] = Field(
        "mean",
        description=(
            "`sqrtn`: the sum divided by the root of the length, so that what is typical of a long"
            " history is not averaged away; `attention`: causal self-attention, where order matters."
        ),
    )


class AuxiliaryConfig(Strict):
    """A second objective: how much a taken item was liked (`columns.label`). A small head predicts the label
    from both vectors. It shapes them in training and does not change how items are ranked: lists are
    ordered by the cosine.
    """

    weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description=(
            "Weight of its loss next to the softmax: the squared error in units of the labels' standard"
            " deviation. Both are means over the batch. 0 is off."
        ),
    )


class TrainConfig(Strict):
    """The model and how it learns."""

    dimension: int = Field(
        64, ge=1, description="Width of query and item vectors.", json_schema_extra=BASIC
    )
    layers: tuple[int, ...] = Field(
        (),
        description=(
            "Widths of the hidden layers of each tower, `[128]`; no layers did better on both data sets"
            " that were tried."
        ),
    )
    temperature: float = Field(0.15, gt=0, description="Divides the cosine before the softmax.")
    skip: bool = Field(
        True,
        description=(
            "Add the embeddings of the item and of the history to the output of the layers, where widths"
            " match."
        ),
    )
    history: HistoryEncoderConfig = Field(
        default_factory=HistoryEncoderConfig, description="How a history becomes one vector."
    )
    correction: Literal["none", "batch", "expected_count"] = Field(
        "batch",
        description=(
            "Correction of the softmax for sampling. `batch`: the paper's log p; `expected_count`:"
            " corrects only negatives, by how often each is expected; `none`: no correction."
        ),
    )
    frequency: FrequencyConfig = Field(
        default_factory=FrequencyConfig, description="The frequency estimate."
    )
    negatives: NegativesConfig = Field(
        default_factory=NegativesConfig, description="The negatives."
    )
    auxiliary: AuxiliaryConfig = Field(
        default_factory=AuxiliaryConfig, description="A second objective."
    )
    learning_rate: float = Field(0.1, gt=0, description="Learning rate of Adagrad.")
    slot_decay: float = Field(
        0.9,
        gt=0,
        le=1,
        description=(
            "Factor for Adagrad's sums of squared gradients when training goes on from a parent, applied"
            " once whatever the number of days between. With 1 each further day learns less."
        ),
    )
    batch_size: int = Field(
        256,
        ge=2,
        description=(
            "Examples, and so negatives, per step. Use thousands for large logs, which also train faster."
        ),
        json_schema_extra=BASIC,
    )
    epochs: int = Field(
        3,
        ge=1,
        description=(
            "Passes over the window's days when training from scratch; large logs need one. Training that"
            " goes on from a parent takes one pass over its day."
        ),
        json_schema_extra=BASIC,
    )
    order: Literal["time", "shuffled"] = Field(
        "time",
        description=(
            "`shuffled`: over the whole window when training from scratch, which is then held in memory,"
            " else over the day; for tastes that change slowly."
        ),
    )
    id_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description=(
            "Share of ids that are replaced by the row shared by unknown ids, so that this row suits new"
            " ones. Where the id is the items' only feature, a large share makes the towers list items"
            " that hardly anybody takes."
        ),
    )
    context_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "Fraction of training queries with optional features (device, age group) removed, so that"
            " requests without them still work, for example for new users."
        ),
    )
    seed: int = Field(0, ge=0, description="Seed of initial weights, shuffling and dropout.")
    deterministic: bool = Field(False, description="Make reruns bit-equal; slower.")
    wait: Duration = Field(
        timedelta(hours=6),
        description="How long a day waits for unfinished earlier days while none of them ends.",
    )
