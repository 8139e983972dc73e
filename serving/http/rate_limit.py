"""How many requests a client may send."""

import math
import time
from collections.abc import Callable


class RateLimit:
    """Lets each client send so many requests a second in the mean, and those of some seconds at once.

    A token bucket, told by one number for each client: when it would be full again. (The generic
    cell rate algorithm.)

    Args:
      rate: requests a second; 0 is any number.
      burst: seconds whose requests may come at once; at least one request may.
      clock: seconds, of any beginning.
    """

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every = 1 / rate if rate else 0.0
        self._most = max(burst, self._every)
        self._clock = clock
        self._full_at: dict[bytes, float] = {}

    def wait(self, client: bytes) -> int:
        """Counts a request of a client; seconds, rounded up, after which to ask again, 0 if it may
        go on.

        Clients are remembered for good: there should be few of them.
        """
        if not self._every:
            return 0
        now = self._clock()
        full_at = max(now, self._full_at.get(client, now)) + self._every
        # A request that is turned away costs nothing, so that who asks too often is not shut out.
        if (excess := full_at - now - self._most) > 1e-9:
            return math.ceil(excess)
        self._full_at[client] = full_at
        return 0
