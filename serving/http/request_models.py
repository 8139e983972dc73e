"""Bodies that clients send, as types, made from the pipeline's query features and the deployment's
limits. serving/http/bodies.py checks by the keys' types, serving/http/openapi.py describes the models.
"""

from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, create_model

from serving.http.server_settings import Settings
from serving.requests.list_request import DEFAULTS, OPTIONS, ListRequest, Option
from serving.requests.request_model import RequestModel
from serving.requests.value_types import ONE_ITEM_ID, whole_number

REMOVED = {"explore": "leave it out: no place of a list is kept for items without events"}
"""Keys of a body that there were, and what to write instead."""


class RecommendRequest(NamedTuple):
    """A request to `/v1/recommend`.

    Attributes:
      queries: as `RequestModel.parse` made them, one at least.
      options: for all of them.
      single: whether it came as `query`.
    """

    queries: list[dict[str, Any]]
    options: ListRequest
    single: bool


class SimilarRequest(NamedTuple):
    """A request to `/v1/similar`; of its options, `k`, `filter` and `display` count."""

    item: str
    options: ListRequest = DEFAULTS


class RequestBodies:
    """The bodies that a server takes.

    Attributes:
      options: keys of `/v1/recommend` besides the query, or queries.
      one_query: model of a body with a query.
      several_queries: model of a body with a list of them.
      item: key of `/v1/similar`.
      similar_options: its other keys but the filters, which are those of a query.
      similar: model of its body.
    """

    def __init__(self, requests: RequestModel, settings: Settings) -> None:
        k = OPTIONS["k"]._replace(value=whole_number(1, settings.max_k))
        self.options = OPTIONS | {"k": k}
        options = _optional(self.options)
        query: Any = requests.query_type
        count = Field(min_length=1, max_length=settings.max_queries, fail_fast=True)
        queries: Any = Annotated[list[query], count]
        self.one_query = _model("One", {"query": (query, ...), **options})
        self.several_queries = _model("Several", {"queries": (queries, ...), **options})
        self.item = Option(ONE_ITEM_ID, "An item of the live version's catalogue.")
        display = Option(OPTIONS["display"].value, "Send display columns along.")
        self.similar_options = {"k": k, "display": display}
        filters = [requests.fields[key] for key in ("allow", "deny")] if requests.attributes else []
        keys = {
            "k": k,
            **{field.key: Option(field.value, field.description) for field in filters},
            "display": display,
        }
        item = (self.item.value.annotation, Field(description=self.item.description))
        self.similar = _model("The body", {"item": item, **_optional(keys)})


def _model(title: str, fields: dict[str, Any]) -> type[BaseModel]:
    return create_model("Body", __config__=ConfigDict(extra="forbid", title=title), **fields)


def _optional(options: dict[str, Option]) -> dict[str, tuple[Any, Any]]:
    return {
        key: (
            option.value.annotation | None,
            Field(getattr(DEFAULTS, key, None), description=option.description),
        )
        for key, option in options.items()
    }
