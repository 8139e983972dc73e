"""What a drafted pipeline file says of window, history, training and seen items: each line follows
from a figure of the log, and its comment gives the figure.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from beam_jobs.scaffold.log_figures import LogFigures
from twinspire_core.config.tables.data import WindowConfig
from twinspire_core.config.tables.training import TrainConfig

_TURNS_OVER = 0.3
"""Share of events on new items from which on a catalogue is one of news: 0.93 on news, at most 0.07 on
groceries and films.
"""
_REPEATS = 0.1
"""Share of repeats from which on habits tell most: 0.29 and more on groceries, 0 on films and news."""
_AT_ONCE = 0.5
_EXAMPLES = 500_000
"""Enough to train on, where wishes hardly change."""
_MANY_EXAMPLES = 1_000_000
_UNIFORM = 1_000
_LENGTHS = (20, 50, 100, 200)
_SEQUENCE = 20
_NEWS_DAYS = 7
_LONGEST = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedLines:
    """Lines by where they go; the defaults hold where the log says nothing.

    Attributes:
      about: comments that give the figures.
      window: of `[window]`.
      length: of the history's feature.
      counts: why counts of lately are no features; empty where they are.
      train: of `[train]`.
      serving: of `[serving]`.
    """

    about: list[str] = field(default_factory=list)
    window: list[str] = field(default_factory=list)
    length: str = "length = 20"
    counts: str = ""
    train: list[str] = field(default_factory=list)
    serving: list[str] = field(default_factory=list)


def drafted_lines(log: LogFigures) -> DraftedLines:
    """What the figures say."""
    train_days = _train_days(log)
    return DraftedLines(
        about=_about(log),
        window=list(_window(log, train_days)),
        length=f"length = {_length(log)}  # {log.earlier} earlier events at the median event",
        counts=f"{_news(log)}, so counts of earlier days are of the past"
        if turns_over(log)
        else "",
        train=list(_train(log, log.events * train_days // log.days)),
        serving=[_exclude_seen(log)],
    )


def turns_over(log: LogFigures) -> bool:
    """Whether what is new today is what is wanted today, as with news."""
    return log.turnover >= _TURNS_OVER


def _about(log: LogFigures) -> list[str]:
    returns = f", who come back after {log.days_between:g} (median)" if log.days_between else ""
    return [
        f"# The log: {log.events:,} events on {log.items:,} items in {log.days:,} days;"
        f" {log.daily_users:,.0f} users a day{returns}.",
    ]


def _news(log: LogFigures) -> str:
    return f"{log.turnover:.0%} of events are on items of the last {log.new_days} days"


def _train_days(log: LogFigures) -> int:
    if turns_over(log):
        return _NEWS_DAYS
    enough = -(-_EXAMPLES * log.days // log.events)
    return min(log.days, max(_NEWS_DAYS, enough))


def _window(log: LogFigures, train_days: int) -> Iterator[str]:
    default = WindowConfig()
    history = default.history_days
    if turns_over(log):
        history = 2 * train_days
        yield f"history_days = {history}"
        yield f"train_days = {train_days}  # {_news(log)}"
    else:
        history = max(history, train_days)
        if history > default.history_days:
            yield f"history_days = {history}  # as many as are trained on"
        events = log.events * train_days / log.days
        yield f"train_days = {train_days}  # {events:,.0f} events"
    personal = min(_LONGEST, log.days)
    if log.repeats >= _REPEATS and personal > history:
        yield f"personal_days = {personal}  # {_repeated(log)}"


def _length(log: LogFigures) -> int:
    return next((length for length in _LENGTHS if length >= log.earlier), _LENGTHS[-1])


def _repeated(log: LogFigures) -> str:
    return f"{log.repeats:.0%} of events repeat one of an earlier day"


def _train(log: LogFigures, examples: int) -> Iterator[str]:
    if log.repeats >= _REPEATS:
        yield f'history = {{ pooling = "sqrtn" }}  # {_repeated(log)}: habits'
        yield "dimension = 256  # habits differ from user to user"
    elif log.earlier >= _SEQUENCE and not turns_over(log):
        yield f'history = {{ pooling = "attention" }}  # {_repeated(log)}: what came last tells'
    if not turns_over(log):
        yield f'order = "shuffled"  # {_news(log)}'
        yield "learning_rate = 0.03"
    passes = _passes(log, examples)
    if passes != TrainConfig().epochs:
        yield f"epochs = {passes}  # {examples:,} examples"
    if examples >= _MANY_EXAMPLES:
        yield f"batch_size = 1024  # {examples:,} examples"
    if log.repeats < _REPEATS:
        yield f"negatives = {{ uniform = {min(_UNIFORM, log.items)} }}  # {_repeated(log)}"
    elif log.at_once >= _AT_ONCE:
        share = f"{log.at_once:.0%} of events are of baskets"
        yield f"negatives = {{ mask_positives = true }}  # {share}"


def _passes(log: LogFigures, examples: int) -> int:
    if examples >= _MANY_EXAMPLES:
        return 1
    return 6 if log.repeats >= _REPEATS else TrainConfig().epochs


def _exclude_seen(log: LogFigures) -> str:
    seen = log.repeats < _REPEATS
    what = "are left out" if seen else "stay"
    return f"exclude_seen = {str(seen).lower()}  # {_repeated(log)}: seen items {what}"
