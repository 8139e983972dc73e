"""The library, asked with options as keyword arguments."""

from typing import Any

from serving import request_files
from serving.answers import recommend as lists
from serving.answers.answer import Answer
from serving.requests.request_model import ListRequest
from serving.version.filters import Filter
from serving.version.loaded_version import Version


def asked(version: Version, k: int, allow: Any = None, deny: Any = None, **options) -> ListRequest:
    wanted = Filter.of(version.pipeline.corpus.attributes, allow, deny)
    return ListRequest(k=k, filter=wanted, **options)


def recommend(version: Version, requests: Any, k: int, *, now: Any = None, **options) -> Answer:
    return lists.recommend(version, requests, asked(version, k, **options), now=now)


def similar(version: Version, item: str, k: int, **filters) -> Answer:
    return lists.similar(version, item, asked(version, k, **filters))


def recommend_lines(
    version: Version, queries: str, out: str | None, k: int, *, now: Any = None, **options
) -> dict:
    return request_files.recommend_lines(
        version, queries, out, asked(version, k, **options), now=now
    )
