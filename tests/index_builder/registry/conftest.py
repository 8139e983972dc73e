"""A registry in a place, and versions published there."""

import random

import pytest

from index_builder.registry.registry import Registry
from index_builder.registry.version_log import version_date
from tests.index_builder.registry.staging import staged


@pytest.fixture
def registry(place):
    return Registry(place, "p")


@pytest.fixture
def publish(registry, tmp_path):
    """Publishes a version of a day; its id."""

    def publish(day, text="x", *, accepted=True, promote="auto", while_live=None, **fields):
        folder, manifest = staged(tmp_path / f"staged-{random.random()}", day, text, **fields)
        registry.publish(
            folder,
            manifest,
            accepted=accepted,
            reason="because",
            promote=promote,
            while_live=while_live,
        )
        return manifest.version

    return publish


@pytest.fixture
def refresh(publish, registry):
    """Publishes a refresh of a trained version with the catalogue of a later day; its id."""

    def refresh(trained, corpus_date, text="", **options):
        fields = {"refreshes": trained, "corpus_date": corpus_date, **options}
        return publish(version_date(trained), text or f"catalogue of {corpus_date}", **fields)

    return refresh
