"""One version's list as a page shows it: the API's answer, and why each item is in it.

Facts about the whole corpus are computed once for each version (`CorpusView`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.answers.answer import ReasonPart
from serving.http.answer_bodies import answer_one, answer_similar
from serving.http.bodies import RecommendRequest, SimilarRequest
from serving.http.http_errors import TYPES, Problem
from serving.http.micro_batching import Parts
from serving.http.openapi import OneAnswer, SimilarAnswer
from serving.http.prometheus import Metrics
from serving.requests.query_rows import TIME, Requests
from serving.version.loaded_version import Version
from serving.version.user_store import STORED_PAST
from twinspire_core.config.source_registry import RANKED
from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.display.quality_tables import list_name
from twinspire_core.display.table import number, short_name
from twinspire_core.metrics.list_metrics import popular_items
from twinspire_core.search.ragged import is_list
from twinspire_core.sources import user_histories
from twinspire_core.sources.popular_and_history import popular_order

LONGEST = 200
"""Most items of a list that a page shows."""
MATCHES = 50
"""Most items of a name that a page shows."""
_BASIS = {
    "stored_user": "what the version knows of the user",
    "history": "the history",
    "features": "the features",
    "id": "the user's id alone: this version stores no users",
    "nothing": "nothing: this is what anybody gets now",
}
_uncounted = Metrics()  # the lists of pages do not count as traffic
_VALUES = 200  # of an attribute are proposed; the others can be typed
_USERS = 100  # are proposed; any other can be typed
# Weak keys: an entry goes when its version is swapped out.
_views: "WeakKeyDictionary[Version, CorpusView]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusView:
    """What pages need of the N items and the users of a version.

    Attributes:
      values: the most frequent values of each attribute, as text.
      users: user ids to propose, spread over all of the version's users.
      popular: [N] bool, the fewest items with half of the last days' events; None without events.
      events: [N] int64, events of each item in the count window.
    """

    values: dict[str, list[str]]
    users: list[str]
    popular: np.ndarray | None
    events: np.ndarray

    @classmethod
    def of(cls, version: Version) -> "CorpusView":
        """The view of a version, read once. New items do not change it."""
        version = version.published
        if version in _views:
            return _views[version]
        items = version.items
        values: dict[str, list[str]] = {}
        for name in version.pipeline.corpus.attributes:
            if attribute_name(name) in items.column_names:
                values[name] = _most_frequent(items[attribute_name(name)].combine_chunks())
        _views[version] = view = cls(
            values=values,
            users=version.users.some(_USERS) if version.users is not None else [],
            popular=popular_items(popular_order(items, "_lately"), items["_lately"].to_numpy()),
            events=items["_popular"].to_numpy(),
        )
        return view


def _most_frequent(values: pa.Array) -> list[str]:
    if is_list(values.type):
        values = values.flatten()
    counts = pc.value_counts(values.drop_null())
    order = pc.sort_indices(counts.field("counts"), [("", "descending")])
    frequent = counts.field("values").take(order[:_VALUES]).to_pylist()
    # As JSON and filters write true and false.
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in frequent]


class Tag(NamedTuple):
    """A short remark about an item, such as its source.

    Attributes:
      kind: `seen`, `popular`, `new`, or a source; the style sheet colours them.
      title: the label explained in a sentence.
    """

    kind: str
    label: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An item of a list.

    Attributes:
      about: the display columns, without the name.
      score: empty in a history, and where it means nothing.
      there: whether the item is in the corpus.
      reasons: features that moved it most, in a ranker's list.
      moved: how many places higher it is than in the other list; None without another list, or if
        that lacks the item.
      alone: whether there is another list that lacks it.
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
    """A version's answer, or why there is none.

    Attributes:
      version: id of the version.
      status: HTTP status, if the page shows this list alone.
      basis: what the list is based on, in words.
      unknown: whether the request has a user id that the version does not know, and nothing else.
      history: the newest event first; None for items like an item.
      knows: stored features of the user, by name.
      item: the item that others are compared with.
      facts: attributes and counts of that item, by name.
      shared: number of items that both lists have; None for a single list.
    """

    version: str
    live: bool
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
    """The list for a user, part by part.

    Args:
      live: whether `version` is the live one.
      request: a request of one query that asks for display columns.
    """
    try:
        answer = yield from answer_one(version, requests, request, _uncounted)
    except Problem as e:
        return _refused(version, live, e)
    features, taken = _stored_user(version, requests, answer["user"])
    taken |= {str(taken_item["item"]) for taken_item in answer["history"]}
    meant_nothing = answer["known"] is False and answer["based_on"] == "nothing"
    unknown = answer["user"] is not None and meant_nothing
    return ListView(
        version=version.id,
        live=live,
        status=404 if unknown else 200,
        source=list_name(answer["source"]),
        basis=_BASIS[answer["based_on"]],
        unknown=unknown,
        rows=_rows(version, answer, taken, answer.get("sources"), answer.get("reasons")),
        history=[_row(item, there="name" in item) for item in answer["history"]],
        knows=features,
        warnings=answer.get("notes", ()),
    )


def similar(version: Version, live: bool, request: SimilarRequest) -> Parts[ListView]:
    """The list of items like an item, part by part. The request asks for display columns."""
    try:
        answer = answer_similar(version, request)
    except Problem as e:
        return _refused(version, live, e)
    yield 1
    row = int(version.rows([request.item])[0])
    return ListView(
        version=version.id,
        live=live,
        rows=_rows(version, answer, set()),
        warnings=answer.get("notes", ()),
        item=_row(version.describe([row])[0], tags=_tags_of_items(version, [row])[0]),
        facts=_item_facts(version, row),
    )


def find_items(version: Version, typed: str) -> list[Row]:
    """The items with an id or a name that a person typed, the most popular first. A whole name wins over a
    part of a name. Case is ignored.
    """
    items = version.published.items
    rows = version.rows([typed])
    if rows[0] < 0:
        names = pc.utf8_lower(items["_name"].fill_null(""))
        rows = np.flatnonzero(pc.equal(names, typed.lower()))
        if not len(rows):
            rows = np.flatnonzero(pc.match_substring(names, typed.lower()))
        rows = rows[np.argsort(-items["_popular"].take(rows).to_numpy(), kind="stable")]
    return [_row(described) for described in version.describe(rows[:MATCHES])]


def compared(views: Sequence[ListView]) -> list[ListView]:
    """The lists, and if there are two, how each item moved from the first to the second."""
    if len(views) != 2 or any(view.problem for view in views):
        return list(views)
    before, after = views
    rank_before = {row.item: rank for rank, row in enumerate(before.rows)}
    items_after = {row.item for row in after.rows}
    shared = len(rank_before.keys() & items_after)
    rows_before = [replace(row, alone=row.item not in items_after) for row in before.rows]
    rows_after = [
        replace(row, moved=rank_before[row.item] - rank)
        if row.item in rank_before
        else replace(row, alone=True)
        for rank, row in enumerate(after.rows)
    ]
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
    """The items of an answer with display columns.

    Args:
      taken: ids of the items that the user had before.
      sources: the source with the largest part in each item's score, if there are several.
    """
    # The tag for items that the user had comes first, and the source last.
    tags = _tags_of_items(version, version.rows(answer["items"]).tolist())
    ranked = answer.get("source") == RANKED
    # A ranker's trees do not add up scores of sources
    title = "It listed the item highest." if ranked else "It contributed most to the score."
    rows: list[Row] = []
    for rank, described in enumerate(answer["display"]):
        of_item = list(tags[rank])
        if described["item"] in taken:
            of_item.insert(0, Tag("seen", "seen before", "The user had it before."))
        if sources:
            source = sources[rank]
            of_item.append(Tag(source, f"source: {list_name(source)}", title))
        # A ranker's score only orders the list, and may be negative
        score = "" if ranked else number(float(answer["scores"][rank]), 4)
        shown = _distinct(reasons[rank]) if reasons else ()
        rows.append(_row(described, score=score, tags=of_item, reasons=shown))
    return rows


def _distinct(reasons: Sequence[ReasonPart]) -> list[ReasonPart]:
    """The reasons without those that say again, with another figure, what a stronger one says."""
    kept: dict[tuple[str, bool], ReasonPart] = {}
    for reason in reasons:
        words = reason["text"].partition(" (")[0]
        kept.setdefault((words, reason["contribution"] > 0), reason)
    return list(kept.values())


def _row(described: Mapping[str, str | None], **more: Any) -> Row:
    texts = [text for name, text in described.items() if name not in ("item", "name")]
    item = str(described["item"])
    return Row(
        item=item,
        name=short_name(described.get("name") or item),
        about=" · ".join(short_name(text) for text in texts if text is not None),
        **more,
    )


def _tags_of_items(version: Version, rows: Sequence[int]) -> list[list[Tag]]:
    """Remarks about items by their rows: popular, new, or rare."""
    corpus = CorpusView.of(version)
    published = len(version.published.items)
    days = version.pipeline.window.count_days
    popular = Tag(
        "popular",
        "popular",
        "One of the top items that together had half of the last days' events.",
    )
    quiet = Tag("new", "new or rare", f"It had no event in the last {days} days.")
    later = Tag("new", "new", "It is newer than this version, and joined by live events.")
    tags: list[list[Tag]] = []
    for row in rows:
        if row >= published:
            tags.append([later])
            continue
        of_item: list[Tag] = []
        if corpus.popular is not None and corpus.popular[row]:
            of_item.append(popular)
        if not corpus.events[row]:
            of_item.append(quiet)
        tags.append(of_item)
    return tags


def _stored_user(
    version: Version, requests: Requests, user: str | None
) -> tuple[list[tuple[str, str]], set[str]]:
    """The features of a stored user, as text by name, and the ids of the items that the user had; empty
    if the version does not know the user, or carries none.
    """
    if version.users is None:
        return [], set()
    table, known = version.users.find([user])
    if not known[0]:
        return [], set()
    stored: dict[str, Any] = table.to_pylist()[0]
    # A stored time belongs to some event, and says nothing about the user.
    names = [f.key for f in requests.model.features if requests.features.field(f.key).type != TIME]
    features = [(name, _fact_text(stored[name])) for name in names if stored.get(name) is not None]
    # The decayed counts go back further than the history.
    taken = {*(stored.get(STORED_PAST) or ()), *(stored.get(user_histories.ITEMS) or ())}
    return features, taken


def _item_facts(version: Version, row: int) -> list[tuple[str, str]]:
    """An item's attributes and counts, as text by name."""
    pipeline = version.pipeline
    stored = version.items.slice(row, 1).to_pylist()[0]
    facts = [(name, stored.get(attribute_name(name))) for name in pipeline.corpus.attributes]
    facts += [
        (f"events in {pipeline.window.count_days} days", stored.get("_popular")),
        ("lately", stored.get("_lately")),
    ]
    return [(name, _fact_text(value)) for name, value in facts if value is not None]


def _fact_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_fact_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
