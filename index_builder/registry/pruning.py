"""Which versions may be deleted: old ones that nobody needs, and what publications that ended early
have left.
"""

from datetime import date

from index_builder.registry.versions import Versions
from twinspire_core.contracts.manifest import is_id


def prunable(versions: Versions, *, keep: int, keep_days: int, as_of: date) -> list[str]:
    """Stored versions beyond the newest `keep` and more than `keep_days` days before `as_of`.

    The live version and those that are pinned are never among them; those whose deletion was begun
    and did not end are.
    """
    stored = [status for status in versions.statuses() if status.stored]
    old = [status for status in stored[keep:] if (as_of - status.date).days > keep_days]
    unneeded = [s.version for s in old if s.status != "live" and not s.pinned]
    begun = versions.state().pruned & set(versions.folders())
    return unneeded + sorted(begun)


def unpublished(versions: Versions, *, before: float) -> list[str]:
    """Folders of versions that the log does not know, and that nobody has written to lately.

    A publication was killed before it was logged, or gave up because other towers went live
    meanwhile.

    Args:
      versions: of a recommender.
      before: seconds since 1970; folders written to since are left out, as somebody may be at work
        there.
    """
    names = [name for name in versions.folders() if is_id(name)]
    state = versions.state()  # read after the names: what is logged meanwhile is known
    unknown = [name for name in names if name not in state.fate and name not in state.pruned]
    return [name for name in unknown if versions.is_abandoned(name, before=before)]
