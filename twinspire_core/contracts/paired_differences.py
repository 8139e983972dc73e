"""Differences of two sets of lists, user by user, as files keep them."""

from collections.abc import Mapping

from twinspire_core.contracts.json_files import JsonPart


class PairedDifference(JsonPart):
    """A measure of one set of lists minus the same of another, user by user.

    Attributes:
      mean: of the differences.
      base: the mean of the other set's measure.
      deviation: standard deviation of the differences over the users.
      differ: users whose two lists differ in the measure.
    """

    mean: float
    base: float
    deviation: float
    differ: int


class PairedDifferences(JsonPart):
    """Such differences for some users of one day: all that pooling days needs, and nothing that
    tells who they were.

    Attributes:
      users: who were asked.
      by_measure: of all these users, such as `recall@50`.
    """

    users: int = 0
    by_measure: Mapping[str, PairedDifference] = {}
