"""The ranker that a version carries, if this release can use it."""

import logging
from pathlib import Path
from typing import NamedTuple

from twinspire_core.config.source_names import RANKED
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.ranker_files import FORMAT, MODEL, RankerFile, RankerFormat
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.ranking.ranking_features import RankingFeatures
from twinspire_core.sources.candidate_sources import CandidateSources

log = logging.getLogger("twinspire.serve")


class SecondStage(NamedTuple):
    """What a version has of it.

    Attributes:
      ranker: None where there is none, or none that can be used.
      serves: whether the gate lets it serve.
      problem: why it cannot be used; None where nothing is wrong.
    """

    ranker: Ranker | None = None
    serves: bool = False
    problem: str | None = None


def read_second_stage(
    home: Path, features: RankingFeatures, sources: CandidateSources
) -> SecondStage:
    """Reads the ranker's files; says once in the log why they cannot be used.

    Args:
      home: local folder of the version, which has its id as name.
      features: that can be made of it.
      sources: that it has.
    """
    place = home / RankerFile.FILE
    if not place.exists():
        return SecondStage()
    described = place.read_bytes()
    found = RankerFormat.parse(described).format
    if found != FORMAT:
        return _unusable(
            home.name,
            f"{RankerFile.FILE} is of format {found}, and this release reads format {FORMAT}: serve"
            " it with the release that wrote it",
        )
    ranker = Ranker.parse((home / MODEL).read_bytes(), described)
    lacking = ranker.lacking(features, sources)
    if lacking:
        return _unusable(
            home.name,
            f"it uses {', '.join(lacking)}, which cannot be made from the version: serve it with"
            " the release that wrote it, or publish a new version",
        )
    verdict = GateVerdict.find(home)
    return SecondStage(ranker, serves=verdict is not None and verdict.serves == RANKED)


def _unusable(version: str, why: str) -> SecondStage:
    problem = f"The ranker of {version} is not used: {why}. Its fixed order answers instead."
    log.warning("%s", problem)
    return SecondStage(problem=problem)
