"""Items like an item."""

import numpy as np

from serving.answers.answer import Answer, AnswerWarnings
from serving.answers.filtered_search import Seen, search_without
from serving.requests.list_request import ListRequest
from serving.version.attributes import select
from serving.version.filters import Groups
from serving.version.loaded_version import Version
from twinspire_core.errors import UsageError, nearest_names
from twinspire_core.search.index import NONE

_COMPARED = 100_000  # ids of items that a mistyped one is compared with, which takes seconds


def similar(version: Version, item: str, options: ListRequest) -> Answer:
    """The items whose vectors are nearest to an item's own, the item itself aside. Of the options, `k`
    and `filter` count.

    Raises:
      UsageError: the item is not in the corpus, or the filter is not understood.
    """
    version = version.published  # what came after it has no vector
    row = int(version.rows([item])[0])
    if row == NONE:
        raise _unknown_item(version, item)
    itself = Seen(np.zeros(1, np.int64), np.array([row]))
    selected = select(version.attributes, options.filter)
    passing = selected.passing if selected else None
    vectors = np.array(version.index.vectors[[row]])
    nearest = search_without(version.index, vectors, options.k, itself, passing)
    groups = Groups((selected,), np.zeros(1, np.int64))
    counts = (nearest.rows != NONE).sum(1)
    others = len(version.index) - 1
    warnings = AnswerWarnings(
        version=version.id, k=options.k, items=others, counts=counts, groups=groups
    )
    return Answer(*nearest, warnings=warnings)


def _unknown_item(version: Version, item: str) -> UsageError:
    near = nearest_names(item, version.ids, 3, compared=_COMPARED)
    if near:
        hint = f"Did you mean {', '.join(near)}?"
    else:
        hint = "Ids are those of the items in the logs."
    return UsageError(
        f"An item is one of the {len(version.items):,} of version {version.id}; {item!r} is"
        f" not. {hint}"
    )
