import pytest

from tests.serving.version.followed_version import Followed, publish


@pytest.fixture
def follow(pipeline, towers, tmp_path):
    """Publishes a version of this half-life, with more files, and follows it."""

    def make(half_life="3h", more=None, **options) -> Followed:
        version = publish(pipeline, towers, tmp_path / "staged", half_life, more)
        return Followed(version, **options)

    return make
