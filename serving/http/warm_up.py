"""What a version is asked before it answers anybody: everything is loaded, and proven to work, by
then.
"""

import numpy as np

from serving.answers.recommend import recommend, similar
from serving.answers.retrieval import available
from serving.http.bodies import K
from serving.requests.query_rows import Refused, Requests
from serving.version.loaded_version import Version
from twinspire_core.errors import BadData

_SIZES = (1, 8, 64, 1)


def warm(version: Version) -> None:
    """Loads all of a version and asks it for lists of several sizes, from every source: no file is
    read afterwards.

    Raises:
      BadData: its lists are empty, or its vectors or scores are not numbers.
    """
    if version.users is not None:
        version.users.load()
    requests = Requests(version.pipeline)
    items = version.ids[: max(_SIZES)].tolist()
    asked = [{"history": items[n : n + 5]} for n in range(max(_SIZES))]
    for source in available(version):
        for size in _SIZES:
            table = requests.table(asked[:size])
            try:
                found = recommend(version, table, K, source=source)
            except Refused as e:  # of a request of ours, which no towers that work refuse
                raise _damaged(version, "Vectors") from e
            if not len(found.counts) or found.counts.min() < min(K, len(version.ids)):
                raise BadData(
                    f"A version lists items for everybody; {version.id} answers warm-up queries"
                    " with too few."
                )
            if not np.isfinite(found.scores[found.rows >= 0]).all():
                raise _damaged(version, "Scores")
    similar(version, items[0], K)


def _damaged(version: Version, what: str) -> BadData:
    return BadData(
        f"{what} are finite; those of {version.id} are not. Its towers are damaged: roll back."
    )
