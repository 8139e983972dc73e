"""What a deployment chooses."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server runs.

    Attributes:
      token: what a request must carry, as `Authorization: Bearer TOKEN`; None lets everybody ask.
      poll: seconds between two looks at the registry; a new live version is found after at most so
        many.
      max_k: the most items of one list. The memory and time of a batch grow with it.
      max_queries: the most queries of one request.
      max_body: bytes of a request body.
      max_batch: queries answered as one batch. More of them raise throughput a little and latency a
        lot.
      max_pending: queries that wait; above it requests are turned away with 503, so that those who
        wait are answered.
      cache: folder that versions on `gs://` are downloaded to; None is `~/.cache/twinspire`.
    """

    token: str | None = field(default=None, repr=False)
    poll: float = 2.0
    max_k: int = 1000
    max_queries: int = 1000
    max_body: int = 1 << 20
    max_batch: int = 64
    max_pending: int = 4096
    cache: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_k", "max_queries", "max_body", "max_batch", "max_pending"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        if not 0 < self.poll <= 3600:
            raise ValueError(f"poll lies in (0, 3600] seconds, got {self.poll}")
        if self.token is not None and not self.token.strip():
            raise ValueError("a token is not empty")
