"""The table `train`: the model, its loss, and how it learns."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from twinspire_core.config.tables.base import BASIC, Duration, Strict


class FrequencyConfig(Strict):
    """The streaming estimate of how often an item appears in batches (section 3 of the paper)."""

    alpha: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Learning rate. A larger one follows changes faster and is noisier.",
    )


class NegativesConfig(Strict):
    """Which negatives a positive gets. All kinds are used together; each negative is corrected by
    its probability.
    """

    in_batch: Literal["all", "random", "hard", "semi_hard"] = Field(
        "all",
        description=(
            "Which other items of the batch are negatives of a row. `all`: all of them."
            " `random`: `k` random ones. `hard`: the `k` with the highest scores."
            " `semi_hard`: `k` of the ranks 100 to 500. `hard` and `semi_hard` are biased,"
            " because the correction cannot account for how they are chosen."
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
            "Items that the same user took elsewhere in the batch are not used as negatives."
            " This is for baskets and playlists: rows of one user and time are placed"
            " together, up to a 64th of a batch, and their history is encoded once."
        ),
    )


class HistoryEncoderConfig(Strict):
    """How a history becomes one vector."""

    pooling: Literal["mean", "sqrtn", "attention"] = Field(
        "mean",
        description=(
            "`mean`: the mean. `sqrtn`: the sum divided by the square root of the length,"
            " which keeps more of what is typical of a long history. `attention`: causal self-attention,"
            " for logs in which the order matters. With these two, vectors get a second, linear part"
            " (PureSVD): three times as wide as `dimension` with `sqrtn`, half as wide with `attention`."
        ),
    )


class AuxiliaryConfig(Strict):
    """A second objective: how much the user liked the item (`columns.label`). A small head
    predicts the label from both vectors. It changes the vectors in training, but not how items are
    ranked: the cosine still orders the lists.
    """

    weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description=(
            "Weight of the second loss, which is added to the softmax loss: the squared error"
            " in units of the labels' standard deviation. Both are means over the batch. 0"
            " turns it off."
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
            "Widths of the hidden layers of each tower, `[128]`; no hidden layers were better"
            " on both data sets that we tried."
        ),
    )
    temperature: float = Field(
        0.15, gt=0, description="The cosine is divided by this before the softmax."
    )
    skip: bool = Field(
        True,
        description=(
            "Add the embeddings of the item and of the history to the output of the layers,"
            " if the widths match."
        ),
    )
    history: HistoryEncoderConfig = Field(
        default_factory=HistoryEncoderConfig, description="How a history becomes one vector."
    )
    correction: Literal["none", "batch", "expected_count"] = Field(
        "batch",
        description=(
            "Correction of the softmax for sampling. `batch`: log p, as in the paper;"
            " `expected_count`: correct only the negatives, by how often each is expected;"
            " `none`: no correction."
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
    # For slots that start at 1e-8; papers start them at 0.1 (docs/decisions/0013-warm-start.md).
    learning_rate: float = Field(0.1, gt=0, description="Learning rate of Adagrad.")
    # Slots only grow: without decay, 158 daily warm starts found 4 to 7% less than training from scratch
    # (docs/decisions/0013-warm-start.md).
    slot_decay: float = Field(
        0.9,
        gt=0,
        le=1,
        description=(
            "Factor for Adagrad's sums of squared gradients when training continues from a"
            " parent. It is applied once, even if days were left out. With 1, each day learns"
            " less than the day before."
        ),
    )
    batch_size: int = Field(
        256,
        ge=2,
        description=(
            "Examples per step; the other examples of a step are the negatives. Use thousands"
            " for large logs, which also trains faster."
        ),
        json_schema_extra=BASIC,
    )
    epochs: int = Field(
        3,
        ge=1,
        description=(
            "Passes over the window's days when training from scratch. Large logs need only"
            " one. Training that continues from a parent makes one pass over its day."
        ),
        json_schema_extra=BASIC,
    )
    # By time, because passes shuffled over the window forget what is popular now: better for groceries and
    # films, never for news (docs/decisions/0026-training.md).
    order: Literal["time", "shuffled"] = Field(
        "time",
        description=(
            "The order of the examples. `time`: by time. `shuffled`: in random order, for"
            " tastes that change slowly. When training from scratch, it shuffles the whole"
            " window and keeps it in memory; else it shuffles the day."
        ),
    )
    id_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description=(
            "Share of ids that are replaced by the row for unknown ids in training, so that"
            " this row is useful for new ids. If the id is the only feature of items, a large"
            " share makes the towers recommend items that hardly anybody takes."
        ),
    )
    context_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "Share of training queries whose optional features (device, age group) are"
            " removed, so that requests without these features work, for example for new"
            " users."
        ),
    )
    seed: int = Field(0, ge=0, description="Seed of initial weights, shuffling and dropout.")
    deterministic: bool = Field(False, description="Make reruns bit-equal; slower.")
    wait: Duration = Field(
        timedelta(hours=6),
        description=(
            "How long a day waits for unfinished earlier days. The time starts again whenever one"
            " of them ends."
        ),
    )
