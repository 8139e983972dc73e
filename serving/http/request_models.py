"""Bodies that clients send, as types, made from the pipeline's query features and the deployment's
limits. serving/http/bodies.py checks by the keys' types, serving/http/openapi.py describes the models.
"""

from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, create_model

from serving.http.server_settings import Settings
from serving.requests.request_model import RequestModel
from serving.requests.value_types import FLAG, ONE_ITEM_ID, SHARE, ValueType, whole_number
from twinspire_core.config.source_names import ANSWERING, AnswerSource

K = 10
"""Items of a list, unless `k` says otherwise."""
EXPLAINED = 100
"""The most items of one request that are explained: each takes almost a millisecond."""


REMOVED = {"explore": "leave it out: no place of a list is kept for items without events"}
"""Keys of a body that there were, and what to write instead."""


class Options(NamedTuple):
    """What may differ between requests; queries with the same ones are answered together.

    Attributes:
      k: items per list.
      source: of `ANSWERING`; None leaves the choice to the version.
      exclude_seen: leave out what the user had before; None leaves it to the version.
      new_share: of each list, new to the user; None leaves it to the pipeline file.
      rules: whether the rules of the pipeline file hold.
      display: send display columns along.
      explain: send along why a ranker has the items where they are.
    """

    k: int = K
    source: str | None = None
    exclude_seen: bool | None = None
    new_share: float | None = None
    rules: bool = True
    display: bool = False
    explain: bool = False


class RecommendRequest(NamedTuple):
    """A request to `/v1/recommend`.

    Attributes:
      queries: as `RequestModel.parse` made them, one at least.
      options: for all of them.
      single: whether it came as `query`.
    """

    queries: list[dict[str, Any]]
    options: Options
    single: bool


class SimilarRequest(NamedTuple):
    """A request to `/v1/similar`."""

    item: str
    k: int = K
    allow: dict[str, Any] | None = None
    deny: dict[str, Any] | None = None
    display: bool = False


class BodyField(NamedTuple):
    """A key of a body.

    Attributes:
      value: what its values may be.
      description: for the OpenAPI document.
      default: what it is where it is left out, or null.
    """

    value: ValueType
    description: str
    default: Any = None


class RequestBodies:
    """The bodies that a server takes.

    Attributes:
      options: keys of `/v1/recommend` besides the query, or queries.
      one_query: model of a body with a query.
      several_queries: model of a body with a list of them.
      similar_fields: keys of `/v1/similar` but the filters, which are those of a query.
      similar: model of its body.
    """

    def __init__(self, requests: RequestModel, settings: Settings) -> None:
        k = BodyField(whole_number(1, settings.max_k), "Items of a list.", K)
        self.options = {
            "k": k,
            "source": _SOURCE,
            "exclude_seen": _EXCLUDE_SEEN,
            "new_share": _NEW_SHARE,
            "rules": _RULES,
            "display": _DISPLAY,
            "explain": _EXPLAIN,
        }
        options = {key: _optional(field) for key, field in self.options.items()}
        query: Any = requests.query_type
        count = Field(min_length=1, max_length=settings.max_queries, fail_fast=True)
        queries: Any = Annotated[list[query], count]
        self.one_query = _model("One", {"query": (query, ...), **options})
        self.several_queries = _model("Several", {"queries": (queries, ...), **options})
        self.similar_fields = {"item": _ITEM, "k": k, "display": _SIMILAR_DISPLAY}
        filters = [requests.fields[key] for key in ("allow", "deny")] if requests.attributes else []
        self.similar = _model(
            "The body",
            {
                "item": (_ITEM.value.annotation, Field(description=_ITEM.description)),
                "k": _optional(k),
                **{
                    field.key: _optional(BodyField(field.value, field.description))
                    for field in filters
                },
                "display": _optional(_SIMILAR_DISPLAY),
            },
        )


_SOURCE = BodyField(
    ValueType(annotation=AnswerSource, expected=f"is one of {', '.join(ANSWERING)}"),
    "Where items come from. Left out: the version's ranker where the gate found it better than its"
    " mix of sources, else the mix where it has one, else the two-tower; and what is popular lately"
    " where nothing is known of the user.",
)
_EXCLUDE_SEEN = BodyField(
    FLAG,
    "Leave out the history, and what the version knows the user to have taken. Left out: as the"
    " version was published with, which `/v1/version` tells (serving.exclude_seen).",
)
_NEW_SHARE = BodyField(
    SHARE,
    "At least this share of a list, and of its first 1, 2, 3 … items, is new to the user, rounded"
    " down. Left out: as the pipeline file says (lists.new_share). 0 is no such rule.",
)
_RULES = BodyField(
    FLAG,
    "Whether the rules of the pipeline file hold (its table lists: caps, new_share).",
    True,
)
_DISPLAY = BodyField(FLAG, "Send display columns of the items, and the history, along.", False)
_EXPLAIN = BodyField(
    FLAG,
    f"With `ranked`: say of each item which features moved it most. For {EXPLAINED} items of a request"
    " at the most, as it takes long.",
    False,
)
_SIMILAR_DISPLAY = BodyField(FLAG, "Send display columns along.", False)
_ITEM = BodyField(ONE_ITEM_ID, "An item of the live version's catalogue.")


def _model(title: str, fields: dict[str, Any]) -> type[BaseModel]:
    return create_model("Body", __config__=ConfigDict(extra="forbid", title=title), **fields)


def _optional(field: BodyField) -> tuple[Any, Any]:
    return field.value.annotation | None, Field(field.default, description=field.description)
