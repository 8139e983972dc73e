"""The table `train`: the model, its loss, and how it learns."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from twinspire_core.config.tables.base import BASIC, Duration, Strict


class FrequencyConfig(Strict):
    """The streaming estimate of how often an item is in a batch (section 3 of the paper)."""

    buckets: int = Field(
        1_000_000, ge=1, description="Size of each array; at least 5 times the items."
    )
    alpha: float = Field(
        0.01, gt=0, le=1, description="Learning rate: larger follows faster and is noisier."
    )


class NegativesConfig(Strict):
    """The items that a positive is held against. They add up; each is corrected by its chance of
    being there.
    """

    in_batch: Literal["all", "random", "hard", "semi_hard"] = Field(
        "all",
        description=(
            "The batch's other items: all, or per row `k` of them: at random; `hard`, those of the"
            " highest scores; `semi_hard`, some of the ranks 100 to 500. The last two are biased: the"
            " correction cannot know how they were picked."
        ),
    )
    k: int = Field(100, ge=1, description="Items of the batch kept per row, unless all are.")
    uniform: int = Field(
        0, ge=0, description="Items drawn each step from the day's catalogue, evenly."
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

    pooling: Literal["mean", "sqrtn", "attention"] = Field(
        "mean",
        description=(
            "`sqrtn`: the sum over the root of its length, so that long histories are not drowned"
            " by what all users share; `attention`: causal self-attention, order matters."
        ),
    )


class AuxiliaryConfig(Strict):
    """A second thing to learn from the same vectors: how much a taken item was liked
    (`columns.label`). A small head predicts the label from both vectors. It shapes them in training
    and does not change how items are ranked: lists are by the softmax's cosine.
    """

    weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description=(
            "Of its loss, the squared error in units of the labels' standard deviation, beside the"
            " softmax; both are means over the batch. 0 is off."
        ),
    )


class TrainConfig(Strict):
    """The model and how it learns."""

    dimension: int = Field(
        64, ge=1, description="Width of the two vectors that are compared.", json_schema_extra=BASIC
    )
    layers: tuple[int, ...] = Field(
        (),
        description=(
            "Widths of the hidden layers of each tower, `[128]`; none did better on both data sets that"
            " were tried."
        ),
    )
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
    slot_decay: float = Field(
        0.9,
        gt=0,
        le=1,
        description=(
            "What Adagrad's sums of squared gradients are multiplied by before training goes on,"
            " once however many days lie between; 1 keeps them, and a line of days learns less"
            " with each."
        ),
    )
    batch_size: int = Field(
        256,
        ge=2,
        description=(
            "Examples, and so negatives, per step. Large logs want thousands, and train faster so."
        ),
        json_schema_extra=BASIC,
    )
    epochs: int = Field(
        3,
        ge=1,
        description=(
            "Passes from scratch over the window's days; large logs need one. Training that goes on"
            " takes one pass over its day."
        ),
        json_schema_extra=BASIC,
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
        description=(
            "Share of ids replaced by their shared row, so that it suits newcomers. Where items are told"
            " apart by their id alone, a large share has the towers list what hardly anybody takes."
        ),
    )
    context_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "Share of the queries that are trained without what a request may leave out (device, age"
            " group), so that one that does, as of a user nobody knows, is answered as well."
        ),
    )
    seed: int = Field(0, ge=0, description="Of initial weights, shuffling and dropout.")
    deterministic: bool = Field(False, description="Bit-equal weights on a rerun, slower.")
    wait: Duration = Field(
        timedelta(hours=6),
        description="How long a day waits for unfinished earlier ones while none of them ends.",
    )
