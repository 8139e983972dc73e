"""What the page says of an item in a word: popular, or new or rare."""

from collections.abc import Sequence
from typing import NamedTuple

from serving.inspector.version_view import CorpusView
from serving.version.loaded_version import Version


class Tag(NamedTuple):
    """A reason why an item is in a list, or what is to be known of it.

    Attributes:
      kind: `seen`, `popular`, `new`, or a source.
      label: in two words.
      title: in one sentence.
    """

    kind: str
    label: str
    title: str


def tags_of_items(version: Version, rows: Sequence[int]) -> list[list[Tag]]:
    """Whether items of the corpus are popular, or new or rare; `rows` are their positions in it."""
    corpus = CorpusView.of(version)
    known = len(version.published.items)
    days = version.pipeline.window.count_days
    popular = Tag(
        "popular", "popular", "One of the few items that had half of the last days' events."
    )
    quiet = Tag("new", "new or rare", f"It had no event in the last {days} days.")
    later = Tag("new", "new", "It came after this version was made: users take it just now.")
    tags: list[list[Tag]] = []
    for row in rows:
        if row >= known:
            tags.append([later])
            continue
        of_item: list[Tag] = []
        if corpus.popular is not None and corpus.popular[row]:
            of_item.append(popular)
        if not corpus.events[row]:
            of_item.append(quiet)
        tags.append(of_item)
    return tags
