"""What `metrics.json` says of the ranker."""

from collections.abc import Mapping

from twinspire_core.contracts.json_files import JsonPart
from twinspire_core.contracts.measures import Measures
from twinspire_core.contracts.paired_differences import PairedDifferences
from twinspire_core.contracts.ranker_file import RankerFit


class RankerMeasures(JsonPart):
    """Lists by rankers.

    Attributes:
      progressive: of the parent's ranker, which was fitted on days before, on all users of the day;
        None where it has none.
      beside_mix: how these lists differ from those of the parent's mix, user by user.
      beside_sources: by source, how they differ from those of that source alone.
      beside_simple: the same of each simple list, on all users alone and not by slice.
      own_beside_mix: the same of this version's ranker and mix, on users held out of the day
        itself.
      fitted: what this version's ranker was fitted on; None where it has none.
    """

    progressive: Measures | None = None
    beside_mix: PairedDifferences | None = None
    beside_sources: Mapping[str, PairedDifferences] = {}
    beside_simple: Mapping[str, PairedDifferences] = {}
    own_beside_mix: PairedDifferences | None = None
    fitted: RankerFit | None = None
