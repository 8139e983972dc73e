"""One version's answer, as it is shown: what the API answers, with the reasons why each item is
there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serving.http.answer_models import OneAnswer, ReasonPart, SimilarAnswer
from serving.http.handlers import answer_one, answer_similar
from serving.http.http_errors import TYPES, Problem
from serving.http.micro_batching import Parts
from serving.http.prometheus import Metrics
from serving.http.request_models import RecommendRequest, SimilarRequest
from serving.inspector.item_tags import Tag, tags_of_items
from serving.inspector.known_facts import item_facts, stored_user
from serving.inspector.version_view import SOURCES
from serving.requests.query_rows import Requests
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import RANKED
from twinspire_core.display.table import number, short_name

LONGEST = 200
"""Items of a list that is shown, at the most."""
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
      score: as text; empty in a history, and where it says nothing.
      there: whether it is in the corpus.
      tags: why it is here.
      reasons: what moved it most, in a ranker's list.
      moved: how many places higher it is than in the other list; None where there is no other list,
        or not this item.
      alone: whether the other list lacks it.
    """

    item: str
    name: str
    about: str
    score: str = ""
    there: bool = True
    tags: Sequence[Tag] = ()
    reasons: Sequence[ReasonPart] = ()
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
    warnings: Sequence[str] = ()
    item: Row | None = None
    facts: Sequence[tuple[str, str]] = ()
    shared: int | None = None


def recommended(
    version: Version, live: bool, requests: Requests, request: RecommendRequest
) -> Parts[ListView]:
    """The items for a user, part by part.

    Args:
      version: what answers.
      live: whether it is the live one.
      requests: what queries may hold.
      request: of one query, with display columns.
    """
    try:
        answer = yield from answer_one(version, requests, request, _uncounted)
    except Problem as e:
        return _refused(version, live, e)
    user = stored_user(version, requests, answer["user"])
    taken = user.taken | {str(one["item"]) for one in answer["history"]}
    meant_nothing = answer["known"] is False and answer["based_on"] == "nothing"
    unknown = answer["user"] is not None and meant_nothing
    return ListView(
        version=version.id,
        live=live,
        status=404 if unknown else 200,
        source=SOURCES[answer["source"]],
        basis=_BASIS[answer["based_on"]],
        unknown=unknown,
        rows=_rows(version, answer, taken, answer.get("sources"), answer.get("reasons")),
        history=[_row(one, there="name" in one) for one in answer["history"]],
        knows=user.features,
        warnings=answer.get("notes", ()),
    )


def similar(version: Version, live: bool, request: SimilarRequest) -> Parts[ListView]:
    """The items like an item, part by part.

    Args:
      version: what answers.
      live: whether it is the live one.
      request: with display columns.
    """
    try:
        answer = answer_similar(version, request)
    except Problem as e:
        return _refused(version, live, e)
    yield 1
    place = int(version.rows([request.item])[0])
    return ListView(
        version=version.id,
        live=live,
        rows=_rows(version, answer, set()),
        warnings=answer.get("notes", ()),
        item=_row(version.describe([place])[0], tags=tags_of_items(version, [place])[0]),
        facts=item_facts(version, place),
    )


def compared(views: Sequence[ListView]) -> list[ListView]:
    """Says of two lists' items how they moved, from the first list to the second."""
    if len(views) != 2 or any(one.loading or one.problem for one in views):
        return list(views)
    before, after = views
    places_before = {row.item: place for place, row in enumerate(before.rows)}
    places_after = {row.item: place for place, row in enumerate(after.rows)}
    shared = len(places_before.keys() & places_after.keys())
    rows_before = [replace(row, alone=row.item not in places_after) for row in before.rows]
    rows_after: list[Row] = []
    for place, row in enumerate(after.rows):
        if row.item in places_before:
            rows_after.append(replace(row, moved=places_before[row.item] - place))
        else:
            rows_after.append(replace(row, alone=True))
    return [
        replace(before, rows=rows_before, shared=shared),
        replace(after, rows=rows_after, shared=shared),
    ]


def _refused(version: Version, live: bool, error: Problem) -> ListView:
    return ListView(version=version.id, live=live, problem=str(error), status=TYPES[error.type][0])


def _rows(
    version: Version,
    answer: OneAnswer | SimilarAnswer,
    taken: set[str],
    sources: Sequence[str] | None = None,
    reasons: Sequence[Sequence[ReasonPart]] | None = None,
) -> list[Row]:
    """The items of an answer.

    Args:
      version: what answered.
      answer: with display columns.
      taken: ids of items that the user had before.
      sources: what gave most to each item's score, where there are several.
      reasons: what moved each item most, where a ranker ordered them.
    """
    tags = tags_of_items(version, version.rows(answer["items"]).tolist())
    ranked = answer.get("source") == RANKED
    title = "It has it nearest to the top." if ranked else "It gave most to the score."
    rows: list[Row] = []
    for place, described in enumerate(answer["display"]):
        of_item = list(tags[place])
        if described["item"] in taken:
            of_item.insert(0, Tag("seen", "seen before", "The user had it before."))
        if sources:
            source = sources[place]
            of_item.append(Tag(source, f"source: {SOURCES[source]}", title))
        score = number(float(answer["scores"][place]), 4)
        rows.append(
            _row(described, score=score, tags=of_item, reasons=reasons[place] if reasons else ())
        )
    return rows


def _row(described: Mapping[str, str | None], **more: Any) -> Row:
    others = [text for name, text in described.items() if name not in ("item", "name")]
    item = str(described["item"])
    return Row(
        item=item,
        name=short_name(described.get("name") or item),
        about=" · ".join(short_name(text) for text in others if text is not None),
        **more,
    )
