"""`ranker.json` and `ranker.txt` of a measure attempt and of a version: the second stage.

`ranker.txt` is LightGBM's own text format. Whether the ranker serves is said by the gate
(`gate.json`); until then it is carried so that the next day can judge it.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from twinspire_core.contracts.json_files import JsonFile, JsonPart

MODEL = "ranker.txt"
FORMAT = 1


class RankerFit(JsonPart):
    """What a ranker was fitted on.

    Attributes:
      days: ISO dates, oldest first.
      queries: users' days with at least one item found among the candidates.
      rows: candidates of these, also as they are by a history alone.
      metric: that lists are judged by, of the length that the trees are made for; their loss is
        that of ndcg.
      importance: by feature, its share of the loss that all splits took away.
    """

    days: Sequence[str] = ()
    queries: int = 0
    rows: int = 0
    metric: str | None = None
    importance: Mapping[str, float] = {}


class RankerFormat(JsonFile):
    """What a reader looks at first. Of another format it does without the ranker, whatever else
    the files hold.

    Attributes:
      format: of both files; 1 of a file that does not say it.
    """

    FILE: ClassVar[str] = "ranker.json"

    format: int = 1


class RankerFile(RankerFormat):
    """The file. Without one there is no second stage.

    Attributes:
      sources: whose lists the candidates are, in order.
      features: names, in the order of the model's columns.
      untimed: whether it was also fitted on queries of which nobody knows when the user's events
        were: features that need times are then missing. Without it they are to be made as if all
        these events were of the present, which is what such a ranker was served before.
      fitted: what it was fitted on.
    """

    sources: Sequence[str] = ()
    features: Sequence[str] = ()
    untimed: bool = False
    fitted: RankerFit = RankerFit()
