"""What a deployment chooses."""

from dataclasses import dataclass, field

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Addresses and names by which only this machine reaches a server."""
_COUNTS = (
    "max_k",
    "max_queries",
    "max_items",
    "max_ids",
    "max_body",
    "max_batch",
    "max_pending",
    "max_events",
)
_SMALLEST_HEAD = 8192


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

    tokens: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] | None = None
    poll: float = 2.0
    max_k: int = 1000
    max_queries: int = 1000
    max_items: int = 100_000
    max_ids: int = 10_000
    max_body: int = 1 << 20
    max_head: int = 1 << 16
    client_timeout: float = 10.0
    max_batch: int = 64
    max_pending: int = 4096
    max_events: int = 1_000_000
    max_new_items: int = 10_000
    cache: str | None = None

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        if self.max_new_items < 0:
            raise ValueError(f"max_new_items is at least 0, got {self.max_new_items}")
        if self.max_head < _SMALLEST_HEAD:
            raise ValueError(f"max_head is at least {_SMALLEST_HEAD}, got {self.max_head}")
        if not 0 < self.client_timeout <= 3600:
            raise ValueError(f"client_timeout lies in (0, 3600] seconds, got {self.client_timeout}")
        if not 0 < self.poll <= 3600:
            raise ValueError(f"poll lies in (0, 3600] seconds, got {self.poll}")
        if not all(token.strip() for token in self.tokens):
            raise ValueError("a token is not empty")
