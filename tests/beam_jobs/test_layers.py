"""Inside beam_jobs imports point one way, along the flow of the data."""

import pytest

from tests.test_imports import MODULES, imports

SHARED = ("schema", "days", "hashing", "batches", "engine")
MAY_IMPORT = {
    **dict.fromkeys(SHARED, ()),
    "reading": SHARED,
    "logs": ("reading",),
    "pipeline_file": ("logs",),
    "point_in_time": (*SHARED, "reading"),
    "raw_features": (*SHARED, "reading", "point_in_time"),
    "transform": SHARED,
    "statistics": (*SHARED, "transform"),
    "vectors": SHARED,
    "features": (*SHARED, "raw_features", "transform", "statistics"),
    "embed": (*SHARED, "vectors"),
}
OURS = sorted(name for name in MODULES if name.startswith("beam_jobs."))


@pytest.mark.parametrize("name", OURS)
def test_imports_follow_the_data(name):
    home = name.split(".")[1]
    parts = {m.split(".")[1] for m in imports(MODULES[name], name) if m.startswith("beam_jobs.")}
    assert parts <= {home, *MAY_IMPORT[home]}


@pytest.mark.parametrize("package", ["logs", "pipeline_file", "reading"])
def test_what_runs_before_the_job_needs_no_beam(package):
    for name in (n for n in OURS if n.startswith(f"beam_jobs.{package}")):
        assert "apache_beam" not in MODULES[name].read_text()
