"""A registry in a place, and versions published there."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from staging import staged

from index_builder.registry import Registry


@pytest.fixture
def registry(place):
    return Registry(place, "p")


@pytest.fixture
def publish(registry, tmp_path):
    """Publishes a version of a day; its id."""

    def publish(day, text="x", *, accepted=True, promote="auto"):
        folder, manifest = staged(tmp_path / f"staged-{random.random()}", day, text)
        registry.publish(folder, manifest, accepted=accepted, reason="because", promote=promote)
        return manifest.version

    return publish
