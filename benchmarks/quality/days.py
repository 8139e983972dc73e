"""The days that contenders are compared on, and the earlier ones that everything is chosen on.

Purchases after `LAST_OPEN` are for the final judgement: nothing may be chosen, tried or looked at on
these days. `require_open` refuses them unless a person names what is judged (`--judge`).

Everything else is development: groceries and the small shop on the two weeks up to `LAST_OPEN`, the
news and the films on days that settings were chosen on as well.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

LAST_OPEN = date(2017, 11, 19)
"""The newest day of purchases that development may read."""
DEVELOPMENT = "development"


@dataclass(frozen=True, kw_only=True)
class Days:
    """Days of a log.

    Attributes:
      development: days to compare on while the project is worked on, one after the other.
      earlier: days that settings are chosen on.
      judged: days of a final judgement by its name, one after the other.
    """

    development: tuple[date, ...]
    earlier: tuple[date, ...]
    judged: Mapping[str, tuple[date, ...]]

    def asked(self, judge: str | None) -> tuple[date, ...]:
        """The days to compare on, in development or for a judgement."""
        return self.judged[judge] if judge else self.development


def _on(first: date, number: int) -> tuple[date, ...]:
    return tuple(first + timedelta(days=n) for n in range(number))


JUDGED: Mapping[str, tuple[date, ...]] = {
    "second-stage": _on(date(2017, 11, 20), 14),
    "towers": _on(date(2017, 12, 4), 14),
}
"""Days of purchases that are looked at once, when that work is done."""
GROCERIES = Days(
    development=_on(date(2017, 11, 6), 14),
    earlier=(date(2017, 10, 9), date(2017, 10, 19), date(2017, 10, 28)),
    judged=JUDGED,
)
"""Also of the small shop. Earlier: a Monday, a Thursday and a Saturday."""
GLOBO = Days(development=_on(date(2017, 10, 13), 4), earlier=_on(date(2017, 10, 11), 2), judged={})
"""Friday to Monday. The log's last whole day is 2017-10-16."""
LOGS: Mapping[str, Days] = {"groceries": GROCERIES, "small-shop": GROCERIES, "globo": GLOBO}


def last_open(judge: str | None) -> date:
    """The newest day of purchases that may be read, in development or for a judgement."""
    return max(JUDGED[judge]) if judge else LAST_OPEN


def require_open(last: date, judge: str | None) -> None:
    """Ends the command where it would read days of purchases that are not open to it.

    Args:
      last: the newest day that would be read.
      judge: the judgement that a person asked for, None in development.
    """
    if last > last_open(judge):
        sys.exit(
            f"Purchases may be read up to {last_open(judge)}; {last} was asked for. Later days are"
            " kept for the final judgement, so that nothing is chosen on them. Name an earlier day,"
            " or judge a finished work with `python -m benchmarks.quality --judge"
            f" {'|'.join(JUDGED)}`."
        )
