"""One version's answer, as it is shown: what the API answers, with the reasons why each item is
there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from serving.http.bodies import Asked, Like
from serving.http.handlers import alike, answer
from serving.http.http_errors import TYPES, Problem
from serving.http.prometheus import Metrics
from serving.inspector.address import query_features
from serving.inspector.version_view import SOURCES, Tag, tags_of_items
from serving.requests.query_rows import PAST, TIME, Requests
from serving.version.loaded_version import Version
from twinspire_core.contracts.feature_schema import attribute_name

_BASIS = {
    "stored_user": "what the version knows of the user",
    "history": "the history",
    "features": "the features",
    "id": "the user's id alone: this version carries no users",
    "nothing": "nothing: this is what anybody gets now",
}
_uncounted = Metrics()  # who looks is no traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An item.

    Attributes:
      about: the display columns but the name.
      score: None in a history.
      there: whether it is in the catalogue.
      tags: why it is here.
      moved: how many places higher it is than in the other list; None where there is no other list,
        or not this item.
      alone: whether the other list lacks it.
    """

    item: str
    name: str
    about: str
    score: float | None = None
    there: bool = True
    tags: Sequence[Tag] = ()
    moved: int | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListView:
    """A version's answer.

    Attributes:
      version: its id.
      live: whether it is the live one.
      loading: it is not there yet.
      problem: why there is no answer.
      status: of HTTP, were it alone.
      source: where the items come from.
      basis: what the answer rests on.
      unknown: the user is asked for by an id that means nothing to the version, and nothing else is
        said.
      history: newest first; None for items like an item.
      knows: what the version knows of the user.
      item: that others are compared with.
      facts: about that item.
      shared: items that the other list has as well; None without one.
    """

    version: str
    live: bool
    loading: bool = False
    problem: str | None = None
    status: int = 200
    source: str | None = None
    basis: str = ""
    unknown: bool = False
    rows: Sequence[Row] = ()
    history: Sequence[Row] | None = None
    knows: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    item: Row | None = None
    facts: Sequence[tuple[str, str]] = ()
    shared: int | None = None


def recommended(version: Version, live: bool, requests: Requests, asked: Asked) -> ListView:
    """The items for a user.

    Args:
      version: what answers.
      live: whether it is the live one.
      requests: what queries may hold.
      asked: one query, with display columns.
    """
    outcome = answer(version, requests, [asked], _uncounted)[0]
    if isinstance(outcome, Exception):
        return _refused(version, live, outcome)
    found = orjson.loads(outcome)
    known, taken = _stored(version, found["user"])
    taken |= {one["item"] for one in found["history"]}
    unknown = (
        found["user"] is not None and found["known"] is False and found["based_on"] == "nothing"
    )
    return ListView(
        version=version.id,
        live=live,
        status=404 if unknown else 200,
        source=SOURCES[found["source"]],
        basis=_BASIS[found["based_on"]],
        unknown=unknown,
        rows=_rows(version, found, taken),
        history=[_row(one, there="name" in one) for one in found["history"]],
        knows=known,
        notes=found.get("notes", ()),
    )


def like(version: Version, live: bool, asked: Like) -> ListView:
    """The items like an item.

    Args:
      version: what answers.
      live: whether it is the live one.
      asked: with display columns.
    """
    try:
        found = orjson.loads(alike(version, asked))
    except Problem as e:
        return _refused(version, live, e)
    place = int(version.rows([asked.item])[0])
    return ListView(
        version=version.id,
        live=live,
        rows=_rows(version, found, set()),
        notes=found.get("notes", ()),
        item=_row(version.describe([place])[0], tags=tags_of_items(version, [place])[0]),
        facts=_facts(version, place),
    )


def compared(panels: Sequence[ListView]) -> list[ListView]:
    """Says of two lists' items how they moved, from the first list to the second."""
    if len(panels) != 2 or any(one.loading or one.problem for one in panels):
        return list(panels)
    first, second = ({row.item: place for place, row in enumerate(one.rows)} for one in panels)
    shared = len(first.keys() & second.keys())
    before = [replace(row, alone=row.item not in second) for row in panels[0].rows]
    after = [
        replace(row, moved=first[row.item] - place)
        if row.item in first
        else replace(row, alone=True)
        for place, row in enumerate(panels[1].rows)
    ]
    return [
        replace(panels[0], rows=before, shared=shared),
        replace(panels[1], rows=after, shared=shared),
    ]


def _refused(version: Version, live: bool, error: Exception) -> ListView:
    if not isinstance(error, Problem):
        raise error
    return ListView(version=version.id, live=live, problem=str(error), status=TYPES[error.type][0])


def _rows(version: Version, found: Mapping[str, Any], taken: set[str]) -> list[Row]:
    mains = found.get("sources", [None] * len(found["items"]))
    slices = tags_of_items(version, version.rows(found["items"]).tolist())
    seen = Tag("seen", "seen before", "The user had it before.")
    return [
        _row(
            one,
            score=score,
            tags=[
                *([seen] if one["item"] in taken else []),
                *tags,
                *(
                    [Tag(main, f"source: {SOURCES[main]}", "It gave most to the score.")]
                    if main
                    else []
                ),
            ],
        )
        for one, score, tags, main in zip(
            found["display"], found["scores"], slices, mains, strict=True
        )
    ]


def _row(described: Mapping[str, str | None], **more: Any) -> Row:
    about = [
        text
        for name, text in described.items()
        if name not in ("item", "name") and text is not None
    ]
    item = str(described["item"])
    return Row(item=item, name=described.get("name") or item, about=" · ".join(about), **more)


def _stored(version: Version, user: str | None) -> tuple[list[tuple[str, str]], set[str]]:
    """What a version knows of a user: features, and items that were taken."""
    if user is None or version.users is None:
        return [], set()
    table, known = version.users.find([user])
    if not known[0]:
        return [], set()
    stored: dict[str, Any] = table.to_pylist()[0]
    own = [one.name for one in query_features(version.pipeline) if one.type != TIME]
    told = [(name, _text(stored[name])) for name in own if stored.get(name) is not None]
    return told, set(stored.get(PAST) or ())


def _facts(version: Version, row: int) -> list[tuple[str, str]]:
    pipeline, stored = version.pipeline, version.items.slice(row, 1).to_pylist()[0]
    told = [(name, stored.get(attribute_name(name))) for name in pipeline.corpus.attributes]
    told += [
        (f"events in {pipeline.window.count_days} days", stored.get("_popular")),
        ("lately", stored.get("_lately")),
    ]
    return [(name, _text(value)) for name, value in told if value is not None]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
