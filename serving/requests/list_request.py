"""What is asked of lists, whoever they are for: declared once for HTTP bodies, files of queries and
commands.
"""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from serving.requests.value_types import FLAG, SHARE, ValueType, whole_number
from serving.version.filters import NO_FILTER, Filter
from twinspire_core.config.source_names import ANSWERING, AnswerSource
from twinspire_core.errors import UsageError

EXPLAINED = 100
"""The most items of one HTTP request that are explained: each takes almost a millisecond."""
_LARGEST = 2**31 - 1


class Option(NamedTuple):
    """A key of HTTP bodies.

    Attributes:
      value: what its values may be.
      description: for the OpenAPI document.
    """

    value: ValueType
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """How lists are made. Queries with equal ones are answered together.

    Attributes:
      source: of `ANSWERING`; None leaves the choice to the version.
      exclude_seen: None leaves it to the version.
      new_share: None leaves it to the pipeline file.
      filter: what all lists may hold, besides what each query says.

    Raises:
      UsageError: k is below 1, or `new_share` is no share.
    """

    k: Annotated[int, Option(whole_number(1, _LARGEST), "Items of a list.")] = 10
    source: Annotated[
        str | None,
        Option(
            ValueType(annotation=AnswerSource, expected=f"is one of {', '.join(ANSWERING)}"),
            "Where items come from. Left out: the version's ranker where the gate lets it serve,"
            " else the fixed order. Where the two-tower is its only source: what is popular lately"
            " if nothing is known of the user.",
        ),
    ] = None
    exclude_seen: Annotated[
        bool | None,
        Option(
            FLAG,
            "Leave out the history, and what the version knows the user to have taken. Left out: as"
            " the version was published with, which `/v1/version` tells (serving.exclude_seen).",
        ),
    ] = None
    new_share: Annotated[
        float | None,
        Option(
            SHARE,
            "At least this share of a list, and of its first 1, 2, 3 … items, is new to the user,"
            " rounded down. Left out: as the pipeline file says (lists.new_share). 0 is no such"
            " rule.",
        ),
    ] = None
    rules: Annotated[
        bool,
        Option(
            FLAG,
            "Whether the rules of the pipeline file hold (its table lists: caps, new_share).",
        ),
    ] = True
    display: Annotated[
        bool,
        Option(FLAG, "Send display columns of the items, and the history, along."),
    ] = False
    explain: Annotated[
        bool,
        Option(
            FLAG,
            "With `ranked`: say of each item which features moved it most. For"
            f" {EXPLAINED} items of a request at the most, as it takes long.",
        ),
    ] = False
    filter: Filter = NO_FILTER

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k is at least 1, found {self.k}.")
        if self.new_share is not None and not 0 <= self.new_share <= 1:
            raise UsageError(
                f"new_share is a share of a list, from 0 to 1; found {self.new_share:g}."
            )


def _options() -> dict[str, Option]:
    hints: dict[str, Any] = get_type_hints(ListRequest, include_extras=True)
    found = ((name, get_args(hint)) for name, hint in hints.items())
    return {name: args[1] for name, args in found if args and isinstance(args[1], Option)}


OPTIONS = _options()
"""What HTTP bodies may hold besides queries, by key."""
DEFAULTS = ListRequest()
