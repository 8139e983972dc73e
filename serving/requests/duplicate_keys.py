"""Keys that are given twice in a JSON object: JSON leaves open which one counts, so they are
refused.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from serving.requests.request_model import Refused
from twinspire_core.errors import shorten


def distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object out of its keys and values, for `json.loads` as `object_pairs_hook`.

    Raises:
      Refused: a key is given twice.
    """
    members = dict(pairs)
    if len(members) < len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise Refused(
            0, f"A key stands once in an object; {shorten(key)} is given twice", "given_twice", key
        )
    return members


def surely_distinct(content: bytes, members: int, objects: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a glance at a text tells that no key is given twice in it. A look by `distinct`
    takes as long as reading the text again.

    Args:
      content: JSON, of which a reader has kept the last of keys that are the same.
      members: that it has kept, of all objects.
      objects: that it has kept, with texts and lists of texts.
    """
    # A member of an object has a colon. Where there are no more colons than members, none was
    # given twice. Texts may hold the others, if no escape (\u003a) hides a colon of theirs.
    others = content.count(b":") - members
    if others == 0:
        return True
    return b"\\u003" not in content and others == sum(map(_count_colons, objects))


def _count_colons(members: Mapping[str, Any]) -> int:
    """Colons in texts, and in lists of texts."""
    texts: list[str] = []
    for value in members.values():
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            texts += (entry for entry in value if isinstance(entry, str))
    return "".join(texts).count(":")
