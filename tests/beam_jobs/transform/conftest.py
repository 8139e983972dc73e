"""The made-up log, and what the transform graph makes of it: done once, and only read."""

from datetime import UTC, datetime

import pytest

from tests.beam_jobs.transform.made_up_log import log, make, run


@pytest.fixture(scope="session")
def window():
    return log()


@pytest.fixture(scope="session")
def today(window):
    return [row for row in window if row["_time"] >= datetime(2024, 3, 10, 5, tzinfo=UTC)]


@pytest.fixture(scope="session")
def done(window, today, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("features"))
    run(make(), window, today, out)
    return out
