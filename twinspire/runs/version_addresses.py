"""Where a version and its report are found."""

from index_builder.registry.registry import Registry
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.artifact_files import REPORT


def addresses_of(pipeline: Pipeline, version: str) -> dict[str, str]:
    """The `folder` of a version's files, and the `report` where a browser finds it.

    Without a server, a report on this machine's disk has no address: a page that came over HTTP, as
    Airflow's do, may not lead to a file.
    """
    registry = Registry(pipeline.registry.root, pipeline.name)
    found = {"folder": registry.folder(version)}
    place = registry.place(version, REPORT)
    if server := pipeline.monitor.server:
        found["report"] = f"{server.rstrip('/')}/report?version={version}"
    elif storage.is_remote(place):
        found["report"] = f"https://storage.cloud.google.com/{place.removeprefix('gs://')}"
    return found
