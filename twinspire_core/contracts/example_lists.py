"""`examples.json` of a measure attempt: lists to look at, of a few users who were held out."""

from collections.abc import Sequence

from pydantic import TypeAdapter

from twinspire_core.contracts.json_files import JsonPart, to_json

FILE = "examples.json"


class ExampleList(JsonPart):
    """What a user was recommended.

    Attributes:
      user: id.
      past_events: events in the longest window before the day.
      history: item ids, the newest first, or the most frequent first.
      items: that were recommended, the best first.
      taken: on the day.
    """

    user: str
    past_events: int
    history: Sequence[str]
    items: Sequence[str]
    taken: Sequence[str]


_LISTS = TypeAdapter(list[ExampleList])


def parse(content: bytes) -> list[ExampleList]:
    """Reads the content of the file."""
    return _LISTS.validate_json(content)


def dump(lists: Sequence[ExampleList]) -> bytes:
    """The content of the file."""
    return to_json([one.model_dump() for one in lists])
