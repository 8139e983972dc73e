"""On which earlier days users are still strangers to a version: the shares held out, as they were
when it learned.

Users are held out by a lot drawn for user and day: those under `evaluation.holdout`, at most
10,000. So the users of a smaller share are among those of a larger one, and whoever today's share
holds out of an earlier day was kept from a version only if the share was no smaller each time that
it, or a version before it, was trained on that day.
"""

from collections.abc import Collection, Mapping
from datetime import date, timedelta

from model.evaluation.queries import HOLDOUT_DAYS
from twinspire_core.contracts import model_bundle
from twinspire_core.contracts.stage_context import StageContext

Shares = Mapping[str, float]
"""By day, for the days that held-out users are taken from: the smallest share held out by whoever
trained on it.
"""


def unseen_users_on(ctx: StageContext) -> set[date]:
    """Earlier days whose users held out by today's share neither the day's version nor its parent
    was trained on.
    """
    shares, share = _of_parent(ctx), ctx.pipeline.evaluation.holdout
    return {day for day in _recent(ctx.day) if shares.get(str(day), 1.0) >= share}


def shares_after(ctx: StageContext, days: Collection[date]) -> Shares:
    """What the version of the day records.

    Args:
      ctx: pipeline, day, mode and parent.
      days: trained on now.
    """
    before = _of_parent(ctx) if ctx.mode == "incremental" else {}
    recent = [*_recent(ctx.day), ctx.day]
    own = {str(day): ctx.pipeline.evaluation.holdout for day in recent if day in days}
    return {str(day): before[str(day)] for day in recent if str(day) in before} | own


def _of_parent(ctx: StageContext) -> Shares:
    """The parent's record. Of a version that has none it is unknown on whom it was trained: nobody
    is a stranger.
    """
    if ctx.parent is None:
        return {}
    unknown = {str(day): 0.0 for day in _recent(ctx.day)}
    return model_bundle.read_metrics(ctx.parent.home).get(model_bundle.SHARES, unknown)


def _recent(day: date) -> list[date]:
    """The days before that held-out users may be taken from, oldest first."""
    return [day - timedelta(days=back) for back in range(HOLDOUT_DAYS - 1, 0, -1)]
