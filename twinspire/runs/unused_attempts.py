"""Which working files are spare."""

from collections.abc import Iterable
from datetime import date

from twinspire.runs.stages import REFRESH, STAGES
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts as workdir


def unused_working_files(
    pipeline: Pipeline, needed: set[str], *, keep_days: int, today: date
) -> list[str]:
    """Attempts of days older than `keep_days`, and of kept days those that a newer committed
    attempt replaced.

    Args:
      pipeline: whose working files.
      needed: URIs of attempts that must stay whatever their age.
      keep_days: days kept.
      today: counted from here.

    Returns: URIs of attempt folders.
    """
    spare = []
    for day in workdir.days(pipeline):
        old = (today - day).days > keep_days
        for stage in (*STAGES, REFRESH.name):
            home = storage.join(workdir.day_uri(pipeline, day), stage)
            newest = workdir.latest(pipeline, day, stage)
            attempts = [storage.join(home, name) for name in storage.list_names(home)]
            # Attempts after the newest committed one may still be written to.
            replaced = attempts[: attempts.index(newest.uri)] if newest else []
            spare += [uri for uri in (attempts if old else replaced) if uri not in needed]
    return spare


def delete_working_files(uris: Iterable[str]) -> None:
    """Deletes attempts: first what makes them visible, then their files."""
    for uri in uris:
        storage.delete_file(storage.join(uri, workdir.DONE))
        storage.delete_tree(uri)
