"""The days that contenders are compared on, and the earlier ones that everything is chosen on.

They were written down before any setting was tuned and any figure measured on the test days. On the
earlier days the settings of contenders are chosen, and which peer is the best. No test day had been
used for choosing anything of this project: settings of the pipeline files were chosen on 2017-09-21
(groceries) and 2017-10-09 (news), sources on days up to 2017-11-01 and 2017-10-12, and the decay of
slots on days up to 2017-10-03.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, kw_only=True)
class Days:
    """Days of a log.

    Attributes:
      test: those compared on, one after the other, so that what is served is run as in life.
      earlier: those chosen on.
      ahead: so many days, the day itself included, hold what the longest case asks for.
    """

    test: tuple[date, ...]
    earlier: tuple[date, ...]
    ahead: int = 1


def _on(first: date, number: int) -> tuple[date, ...]:
    return tuple(first + timedelta(days=n) for n in range(number))


GROCERIES = Days(
    test=_on(date(2017, 11, 6), 14),
    earlier=(date(2017, 10, 9), date(2017, 10, 19), date(2017, 10, 28)),
    ahead=7,
)
"""Two weeks, also of the small shop. A Monday, a Thursday and a Saturday before them."""
GLOBO = Days(test=_on(date(2017, 10, 13), 4), earlier=_on(date(2017, 10, 11), 2))
"""Friday to Monday. The log's last whole day is 2017-10-16."""
LOGS: Mapping[str, Days] = {"groceries": GROCERIES, "small-shop": GROCERIES, "globo": GLOBO}
