"""Blocks and batches of few rows, so that small logs have several."""

import pytest

from beam_jobs.beam import batches
from beam_jobs.ingest import records


@pytest.fixture(scope="package", autouse=True)
def few_rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_ROWS", 40)
        patch.setattr(batches, "BATCH_ROWS", 10)
        yield
