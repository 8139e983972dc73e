"""What a deployment chooses."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Addresses and names by which only this machine reaches a server."""
_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0, le=3600)]
_Token = Annotated[str, Field(pattern=r"\S")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server runs.

    Attributes:
      tokens: of which a request must carry one, as `Authorization: Bearer TOKEN`; none lets
        everybody ask.
      hosts: names that requests may call the server by, in their Host; None is any. Without a token
        a page of any site could otherwise ask a server of this machine, by a name that it has made
        point here.
      poll: seconds between two looks at the registry; a new live version is found after at most so
        many.
      max_k: the most items of one list. The memory and time of a batch grow with it.
      max_queries: the most queries of one request.
      max_items: the most items of one request's lists together, `k` of each; one list alone may have
        `max_k`.
      max_ids: the most entries of a list or object in a body, such as the ids of a history.
      max_body: bytes of a request body.
      max_head: bytes of a request beside its body: headers, sizes of chunks, trailers.
      client_timeout: seconds that a client may take to send the headers of a request, then its
        body. So often it is looked whether it takes an answer fast enough.
      max_batch: weight of queries answered as one batch (micro_batching.py). More of it raises
        throughput a little and latency a lot.
      max_pending: weight of queries that wait; above it requests are turned away with 503, so that
        those who wait are answered. Requests that are answered part by part may fill half of it.
      max_events: the newest events that are kept (`/v1/events`), about 100 bytes each.
      max_new_items: items that came after a version and that its lists may hold once users take them;
        0 leaves its catalogue as it is.
      cache: folder that versions on `gs://` are downloaded to; None is `~/.cache/twinspire`.
    """

    tokens: tuple[_Token, ...] = Field(default=(), repr=False)
    hosts: tuple[str, ...] | None = None
    poll: _Seconds = 2.0
    max_k: _Count = 1000
    max_queries: _Count = 1000
    max_items: _Count = 100_000
    max_ids: _Count = 10_000
    max_body: _Count = 1 << 20
    max_head: Annotated[int, Field(ge=8192)] = 1 << 16
    client_timeout: _Seconds = 10.0
    max_batch: _Count = 64
    max_pending: _Count = 4096
    max_events: _Count = 1_000_000
    max_new_items: Annotated[int, Field(ge=0)] = 10_000
    cache: str | None = None
