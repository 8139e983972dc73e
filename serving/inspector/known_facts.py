"""What a version knows of a user and of an item, as text beside their lists."""

from typing import Any, NamedTuple

from serving.requests.query_rows import TIME, Requests
from serving.version.loaded_version import Version
from serving.version.user_store import STORED_PAST
from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.sources import personal_counts


class StoredUser(NamedTuple):
    """What a version knows of a user: features, as text, and ids of items that were taken."""

    features: list[tuple[str, str]]
    taken: set[str]


def stored_user(version: Version, requests: Requests, user: str | None) -> StoredUser:
    """What it knows of a user; nothing where it does not know the user, or carries none."""
    if user is None or version.users is None:
        return StoredUser([], set())
    table, known = version.users.find([user])
    if not known[0]:
        return StoredUser([], set())
    stored: dict[str, Any] = table.to_pylist()[0]
    # Times are of a moment, and not the user's.
    names = [f.key for f in requests.model.features if requests.features.field(f.key).type != TIME]
    features = [(name, _text(stored[name])) for name in names if stored.get(name) is not None]
    # The counts go back further than the past.
    taken = {*(stored.get(STORED_PAST) or ()), *(stored.get(personal_counts.ITEMS) or ())}
    return StoredUser(features, taken)


def item_facts(version: Version, row: int) -> list[tuple[str, str]]:
    """An item's attributes and how often it was taken, by name."""
    pipeline = version.pipeline
    stored = version.items.slice(row, 1).to_pylist()[0]
    facts = [(name, stored.get(attribute_name(name))) for name in pipeline.corpus.attributes]
    facts += [
        (f"events in {pipeline.window.count_days} days", stored.get("_popular")),
        ("lately", stored.get("_lately")),
    ]
    return [(name, _text(value)) for name, value in facts if value is not None]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
