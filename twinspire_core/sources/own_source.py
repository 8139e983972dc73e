"""Guards the code of user-defined sources: an error names its file and line, and no wrong list goes on."""

import traceback
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pyarrow as pa

from twinspire_core.config.source_registry import ENTRIES
from twinspire_core.errors import BadData, TwinspireError
from twinspire_core.sources.source import Fit, ScoredLists
from twinspire_core.sources.user_histories import Sequences

Result = TypeVar("Result")


def guarded(name: str, call: Callable[[], Result]) -> Result:
    """The result of a call of a source's code.

    Raises:
      BadData: the code of a user-defined source raises an error.
    """
    entry = ENTRIES.get(name)
    if entry is None or not entry.digest:
        return call()
    try:
        return call()
    except TwinspireError:
        raise
    except Exception as e:
        frames = traceback.extract_tb(e.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == entry.path), None)
        place = f"{entry.path}, line {line}" if line else entry.path
        raise BadData(
            f"A source must not raise errors; {name!r} does: {type(e).__name__}: {e} ({place}). Correct the"
            " file, or leave it out of sources.use."
        ) from e


def fitted(name: str, fit: Fit, sequences: Sequences, items: pa.Array) -> pa.Table:
    """What a source's function fits, if that is a table.

    Raises:
      BadData: the function is a user's, and it raises an error or returns something else.
    """
    table = guarded(name, lambda: fit(sequences, items))
    if not isinstance(table, pa.Table):
        where = ENTRIES[name].path
        raise BadData(
            f"A function in `fits` must return a pyarrow.Table; one of {name!r} returns a"
            f" {type(table).__name__}. Correct {where}."
        )
    return table


def checked(name: str, lists: ScoredLists, queries: int, depth: int, items: int) -> ScoredLists:
    """The lists of a source, if those of a user-defined one are what `Source.lists` describes.

    Args:
      queries: how many lists there must be.
      depth: the most places of a list.
      items: of the corpus.

    Raises:
      BadData: they are not.
    """
    entry = ENTRIES.get(name)
    if entry is None or not entry.digest:
        return lists
    listed, scores = np.asarray(lists.items), np.asarray(lists.scores)
    wrong = ""
    if listed.ndim != 2 or len(listed) != queries or listed.shape[1] > depth:
        wrong = f"items of the shape [{queries}, at most {depth}]; found {[*listed.shape]}"
    elif scores.shape != listed.shape:
        wrong = f"a score for each item; found scores of the shape {[*scores.shape]} for {[*listed.shape]}"
    elif not np.issubdtype(listed.dtype, np.integer):
        wrong = f"positions of items as integers; found {listed.dtype}"
    elif listed.size and not (listed.min() >= -1 and listed.max() < items):
        wrong = f"positions from 0 to {items - 1}, or -1 for none; found {listed.min()} to {listed.max()}"
    elif np.isnan(scores).any():
        wrong = "scores that are numbers; found NaN"
    else:
        ordered = np.sort(listed, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            wrong = "each item once in a list; found one twice"
    if wrong:
        raise BadData(f"The lists of {name!r} must have {wrong}. Correct {entry.path}.")
    return lists
