"""Which version is meant by what somebody typed. Pure: touches no storage."""

from collections.abc import Iterable
from datetime import date

from index_builder.registry.version_log import State, version_date
from twinspire_core.errors import UsageError
from twinspire_core.messages import shorten

_LISTED = 8
_RULE = (
    "A version is named by its id, by a beginning of it that no other has, or by a day, for its"
    " newest accepted one"
)


def find_version(text: str, state: State, pipeline: str, *, to_change: bool = False) -> str:
    """The id of the version that is meant.

    Args:
      text: an id, the beginning of one, or a day as 2017-10-16.
      state: what the log amounts to.
      pipeline: name of the recommender, for messages.
      to_change: whether something is done to it. Then a day means its only version, whatever became of
        that, and none where it has several.

    Raises:
      UsageError: no version is meant, or more than one; the candidates are listed.
    """
    if text in state.fate:
        return text
    known = [version for version in state.fate if version not in state.pruned]
    begun = [version for version in known if text and version.startswith(text)]
    day = _day(text)
    if day and to_change and len(begun) == 1:
        return begun[0]
    if day and to_change and begun:
        raise UsageError(
            f"A day names its version only where it has one; of {text} {pipeline} has {len(begun)}:"
            f" {_listed(begun, state)}. Give the id of the one that you mean."
        )
    if day:
        accepted = [version for version in state.by_day() if version_date(version) == day]
        if accepted:
            return accepted[-1]
        if begun:
            raise UsageError(
                f"{_RULE}; of {text} {pipeline} has none that is accepted: {_listed(begun, state)}."
                " To name one of these, give more of its id."
            )
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise UsageError(
            f"{_RULE}; {text!r} is the beginning of {len(begun)} of {pipeline}:"
            f" {_listed(begun, state)}. Give more of it."
        )
    there = "It has none yet"
    if known:
        there = f"It has {_listed(known, state)}"
    raise UsageError(
        f"{_RULE}; no version of {pipeline} is named {shorten(text)}. {there}. `twinspire versions"
        " PIPELINE` tells of all."
    )


def _day(text: str) -> date | None:
    # Python reads more forms than people are told of, 20171016 among them
    if len(text) != len("2017-10-16"):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _listed(versions: Iterable[str], state: State) -> str:
    """Candidates, the newest day first, and what became of each."""
    newest = sorted(versions, reverse=True)
    fates = dict(state.fate)
    if state.live:
        fates[state.live] = "live"
    listed = [f"{version} ({fates[version]})" for version in newest[:_LISTED]]
    more = f" and {len(newest) - _LISTED} older" if len(newest) > _LISTED else ""
    return ", ".join(listed) + more
