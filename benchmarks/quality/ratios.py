"""What is served against each other contender: ratios, in slices of users too."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.quality import served, served_with_events
from benchmarks.quality.contenders import AS_OF_EVENTS, READ_THE_DAY
from benchmarks.quality.figures import HEADLINE, SLICES, Result, by_case, ratio

OURS = "twinspire/served"
SENT = served_with_events.NAME
"""The same, sent events as they happen: compared with peers that know of them too."""
PAIRS = (("twinspire/two-tower", "tfrs"), served.ON_DEMAND)
"""Our encoder like the peer's, trained from scratch like it; the two-tower that is served; and a first
version against one of an older chain.
"""
MEASURES = (HEADLINE, "ndcg@10")
ALL = "all"
"""All users with a history, not only a slice of them."""
Row = Mapping[str, Any]


def ratios(results: Iterable[Result]) -> list[Row]:
    """All ratios whose contenders have been measured, as results.json has them; of `HEADLINE` also in
    slices of users.
    """
    made: list[Row] = []
    for (case, _), found in by_case(results).items():
        for peer in found:
            if not peer.startswith("twinspire"):
                reads = peer in READ_THE_DAY and case in AS_OF_EVENTS
                made += _of(found, SENT if reads else OURS, peer, MEASURES)
        for above, below in PAIRS:
            made += _of(found, above, below, (HEADLINE,), slices=False)
    return made


def _of(
    found: Mapping[str, Result],
    above: str,
    below: str,
    measures: tuple[str, ...],
    *,
    slices: bool = True,
) -> Iterator[Row]:
    if above not in found or below not in found:
        return
    for measure in measures:
        yield _row(ALL, measure, found[above].known, found[below].known)
    for number, name in enumerate(SLICES if slices else ()):
        part = found[above].slice(number), found[below].slice(number)
        if len(part[0].user):
            yield _row(name, HEADLINE, *part)


def _row(users: str, measure: str, above: Result, below: Result) -> Row:
    return {
        "case": above.case,
        "period": above.period,
        "kind": above.kind,
        "counts": above.counts,
        "users": users,
        "measure": measure,
        "above": above.contender,
        "below": below.contender,
        **asdict(ratio(above, below, measure)),
        "queries": len(above.user),
    }
