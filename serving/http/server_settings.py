"""Settings of a server: access, limits and times."""

from dataclasses import dataclass, field

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names and addresses that only this machine can reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server runs. `twinspire serve` checks what a person sets.

    Attributes:
      tokens: a request must have one of them, as `Authorization: Bearer TOKEN`. If there are none,
        everybody has access.
      hosts: allowed names in the Host header; None allows any. This stops pages of other sites, which
        can make a name of their own point at this machine.
      poll: seconds between two checks for a new live version.
      max_k: most items of one list. The memory and time of a batch grow with it.
      max_queries: most queries of one request.
      max_items: most items of one request's lists together; a single list may have `max_k`.
      max_ids: most entries of a list or object in a body, such as the ids of a history.
      max_body: most bytes of a request body.
      max_head: most bytes of a request besides its body: headers, sizes of chunks, trailers.
      client_timeout: seconds that a client may take to send headers, and again to send the body. The
        speed at which a client takes its answer is checked as often.
      max_batch: weight of the queries in one batch (serving/http/micro_batching.py). A larger one
        raises throughput a little and latency a lot.
      max_pending: weight of the queries that may wait. Further requests get status 503, so that waiting
        ones are answered in time. Requests answered part by part may fill half of it.
      max_events: the newest live events that are kept, at about 100 bytes each, and fewer if ids
        are longer than 60 characters.
      max_new_items: the most new items that may join a version; 0 for none.
      access_log: whether to log a line for each request.
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
    access_log: bool = False
