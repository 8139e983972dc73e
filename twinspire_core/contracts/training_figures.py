"""What training did and learned, in `metrics.json`."""

from collections.abc import Mapping, Sequence

from twinspire_core.contracts.json_files import JsonPart
from twinspire_core.contracts.measures import NamedValues


class TrainingFigures(JsonPart):
    """What training did.

    Attributes:
      first_day, last_day: trained on, ISO dates.
      days: how many.
      rows: examples.
      steps: of this day.
      total_steps: of the version's whole line.
      loss: [step, nats] along the day; a step counts on from the day before.
      warning: of training that was over too soon, or of a frequency estimate that is too small.
      tables: rows of each embedding table.
    """

    first_day: str | None = None
    last_day: str | None = None
    days: int = 1
    rows: int | None = None
    steps: int | None = None
    total_steps: int = 0
    loss: Sequence[tuple[int, float]] = ()
    warning: str | None = None
    tables: Mapping[str, int] = {}


class LabelErrors(NamedValues):
    """How far predicted labels are from given ones, as model/towers/auxiliary_head.py says:
    `rmse` and `rmse_of_mean`, or `log_loss`, `log_loss_of_mean` and perhaps `auc`.

    Attributes:
      labels: how many there were.
    """

    labels: int


class AuxiliaryFigures(JsonPart):
    """The head that learns labels.

    Attributes:
      loss: `squared` or `logistic`.
      labels: how many it was trained on.
      mean: of them.
      curve: [step, loss] along the day.
      progressive: the parent's head on the day; None without one, or without a label.
      holdout: this version's head on users held out; None without a label.
    """

    loss: str
    labels: int
    mean: float
    curve: Sequence[tuple[int, float]] = ()
    progressive: LabelErrors | None = None
    holdout: LabelErrors | None = None


class FrequencyFigures(JsonPart):
    """The streaming estimate of how often items are drawn, beside the day's true shares.

    Attributes:
      rows: trained on.
      items: among them.
      known: how often an item must be met for its true share to be known.
      factor: by how much the estimate is off, on average over such items' rows; None without any.
      pairs: [true share, estimated share] of some items, the most frequent first.
    """

    rows: int
    items: int
    known: int
    factor: float | None = None
    pairs: Sequence[tuple[float, float]] = ()
