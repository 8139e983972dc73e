"""Settings that a deployment chooses: who may ask, limits and clocks."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names and addresses by which only this machine itself reaches a server."""
_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0, le=3600)]
_Token = Annotated[str, Field(pattern=r"\S")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server runs.

    Attributes:
      tokens: a request must carry one of them, as `Authorization: Bearer TOKEN`; with none, anybody
        may ask.
      hosts: names by which requests may call the server, in their Host header; None allows any. It
        stops pages of other sites, which can make a name of their own point at this machine.
      poll: seconds between two looks at the registry, after which a new live version is loaded.
      max_k: most items of one list. The memory and time of a batch grow with it.
      max_queries: most queries of one request.
      max_items: most items of one request's lists together; a single list may have `max_k`.
      max_ids: most entries of a list or object in a body, such as the ids of a history.
      max_body: most bytes of a request body.
      max_head: most bytes of a request besides its body: headers, sizes of chunks, trailers.
      client_timeout: seconds that a client may take to send headers, and again to send the body.
        Just as often the server checks that the client takes its answer fast enough.
      max_batch: weight of the queries in one batch (serving/http/micro_batching.py). A larger one
        raises throughput a little and latency a lot.
      max_pending: weight of queries that may wait. Above it requests get status 503, so that those
        that wait are answered in time. Requests answered part by part may fill half of it.
      max_events: newest live events that are kept, at about 100 bytes each.
      max_new_items: most items that a version's lists may hold although they came after it; 0 leaves
        its catalogue as it is.
      cache: local folder for versions on `gs://`; None is `~/.cache/twinspire`.
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
