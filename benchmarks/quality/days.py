"""The days on which contenders are compared, and earlier days on which everything is chosen.

Purchases after `LAST_OPEN` are for the final judgement: nothing may be chosen, tried or inspected on these
days. `require_open` refuses them unless a person names the judgement (`--judge`).

All other days are for development: for groceries and the small shop the two weeks up to `LAST_OPEN`, for the
news and the films days on which settings were chosen, too.
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
      development: consecutive days to compare on during development.
      earlier: days on which settings are chosen.
      judged: consecutive days of a final judgement, by its name.
    """

    development: tuple[date, ...]
    earlier: tuple[date, ...]
    judged: Mapping[str, tuple[date, ...]]

    def asked(self, judge: str | None) -> tuple[date, ...]:
        """The days to compare on, for development or a judgement."""
        return self.judged[judge] if judge else self.development


def _on(first: date, number: int) -> tuple[date, ...]:
    return tuple(first + timedelta(days=n) for n in range(number))


TOWERS = "towers"
"""The judgement of the two-tower alone, next to other models."""
JUDGED: Mapping[str, tuple[date, ...]] = {
    "second-stage": _on(date(2017, 11, 20), 14),
    TOWERS: _on(date(2017, 12, 4), 14),
}
"""Days of purchases that are measured once, when the named work is done."""
GROCERIES = Days(
    development=_on(date(2017, 11, 6), 14),
    earlier=(date(2017, 10, 9), date(2017, 10, 19), date(2017, 10, 28)),
    judged=JUDGED,
)
"""Also for the small shop. The earlier days are a Monday, a Thursday and a Saturday."""
GLOBO = Days(development=_on(date(2017, 10, 13), 4), earlier=_on(date(2017, 10, 11), 2), judged={})
"""Friday to Monday. The log's last whole day is 2017-10-16."""
LOGS: Mapping[str, Days] = {"groceries": GROCERIES, "small-shop": GROCERIES, "globo": GLOBO}


def last_open(judge: str | None) -> date:
    """The newest day of purchases that may be read, for development or a judgement."""
    return max(JUDGED[judge]) if judge else LAST_OPEN


def require_open(last: date, judge: str | None) -> None:
    """Ends the command if it would read days of purchases that it must not read.

    Args:
      last: the newest day that would be read.
      judge: the judgement that a person named; None in development.
    """
    if last > last_open(judge):
        sys.exit(
            f"Purchases may be read up to {last_open(judge)}; {last} was asked for. Later days are"
            " kept for the final judgement, so that nothing is chosen on them. Name an earlier day,"
            " or judge a finished work with `python -m benchmarks.quality --judge"
            f" {'|'.join(JUDGED)}`."
        )
