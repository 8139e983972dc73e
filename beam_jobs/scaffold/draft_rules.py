"""What a drafted pipeline file says of window, history, training and seen items: each line follows
from a figure of the log, and its comment gives the figure.

A log is one of three kinds. Of news, whose catalogue turns over, the last days tell. Where users repeat
what they took before, habits tell. Elsewhere, as of films, it is all that a user took, in order.
"""

from collections.abc import Iterator

import numpy as np

from beam_jobs.scaffold.log_figures import LogFigures
from twinspire_core.config.tables.data import WindowConfig
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.display.table import counted

_TURNS_OVER = 0.3
"""Share of events on new items: 0.93 on news, at most 0.1 on groceries and films."""
_REPEATS = 0.1
"""Share of repeats: 0.29 and more on groceries, none on films and news."""
_AT_ONCE = 0.5
_VISITS = 20
"""That a window of habits holds: groceries are bought every third day, and 60 days tell most."""
_LEAST_DAYS = {"news": 7, "habits": 60, "films": 30}
_EXAMPLES = 1_000_000
_MANY_EXAMPLES = 1_000_000
_ALL_PASSES = 2_000_000
"""Examples of all passes, of which there are six at most."""
_LENGTHS = (20, 50, 100, 200)
_SEQUENCE = 20
_LONGEST = 365


def _kind(log: LogFigures) -> str:
    if log.turnover >= _TURNS_OVER:
        return "news"
    return "habits" if log.repeats >= _REPEATS else "films"


def about(log: LogFigures) -> str:
    """The figures that all lines have in common, as a comment."""
    returns = ""
    if log.days_between:
        returns = f", who come back after {counted(log.days_between, 'day')} (median)"
    return (
        f"# The log: {counted(log.events, 'event')} on {counted(log.items, 'item')} in"
        f" {counted(log.days, 'day')}; {counted(log.daily_users, 'user')} a day{returns}."
    )


def window_lines(log: LogFigures) -> Iterator[str]:
    """Of `[window]`."""
    days = _train_days(log)
    history = max(2 * days if _kind(log) == "news" else days, WindowConfig().history_days)
    yield f"train_days = {days}  # {counted(_examples(log), 'event')}; {_new(log)}"
    yield f"history_days = {history}  # histories reach back at least as far"
    personal = min(_LONGEST, log.days)
    if _kind(log) == "habits" and personal > history:
        yield f"personal_days = {personal}  # {_repeated(log)}"


def _train_days(log: LogFigures) -> int:
    kind = _kind(log)
    so_far = np.cumsum(log.daily[::-1])
    most = {
        "news": 0,
        "habits": round(_VISITS * (log.days_between or 1)),
        "films": int(np.searchsorted(so_far, _EXAMPLES)) + 1,
    }
    return min(log.days, max(_LEAST_DAYS[kind], most[kind]))


def _examples(log: LogFigures) -> int:
    return sum(log.daily[-_train_days(log) :])


def _new(log: LogFigures) -> str:
    return f"{log.turnover:.0%} of events are on items less than {counted(log.new_days, 'day')} old"


def _repeated(log: LogFigures) -> str:
    return f"{log.repeats:.0%} of events repeat one of an earlier day"


def length_line(log: LogFigures) -> str:
    """Of the history's feature."""
    length = next((length for length in _LENGTHS if length >= log.earlier), _LENGTHS[-1])
    return f"length = {length}  # the median event has {log.earlier} earlier ones of its user"


def why_left_out(log: LogFigures, feature: str) -> str:
    """Why counts of the last days, and ages, are no features; empty where they are.

    Films of the next days: recall@50 0.378 with them, 0.430 without. Shoppers who come once a week: 0.210
    and 0.206.

    Args:
      feature: the kind, `count` or `age`.
    """
    if _kind(log) == "news" and feature == "count":
        return f"{_new(log)}, so counts of earlier days mislead"
    if _kind(log) == "films" and feature in ("count", "age"):
        return (
            f"{_repeated(log)}; on such a log, of films, recall@50 fell from 0.430 to 0.378 with it"
        )
    return ""


def train_lines(log: LogFigures) -> Iterator[str]:
    """Of `[train]`."""
    kind = _kind(log)
    examples = _examples(log)
    if kind == "habits":
        yield f'history = {{ pooling = "sqrtn" }}  # {_repeated(log)}: order hardly matters'
        yield "dimension = 256  # habits differ from user to user"
    elif kind == "films" and log.earlier >= _SEQUENCE:
        yield f'history = {{ pooling = "attention" }}  # {_repeated(log)}: the newest items count most'
    if kind != "news":
        yield f'order = "shuffled"  # {_new(log)}: tastes hardly change'
        yield "learning_rate = 0.03"
    most = TrainConfig().epochs if kind == "news" else 6
    yield f"epochs = {max(1, min(most, _ALL_PASSES // examples))}  # {counted(examples, 'example')}"
    if examples >= _MANY_EXAMPLES:
        yield "batch_size = 1024"
    if kind != "habits":
        yield f"negatives = {{ uniform = {min(1000, log.items)} }}  # {_repeated(log)}"
    elif log.at_once >= _AT_ONCE:
        share = f"{log.at_once:.0%} of events belong to a basket"
        yield f"negatives = {{ mask_positives = true }}  # {share}"


def exclude_seen_line(log: LogFigures) -> str:
    """Of `[serving]`."""
    stay = log.repeats >= _REPEATS
    what = "lists keep seen items" if stay else "lists leave seen items out"
    return f"exclude_seen = {str(not stay).lower()}  # {_repeated(log)}: {what}"
