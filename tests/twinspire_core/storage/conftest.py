import pytest

from tests.object_servers import fresh_place

STORES = ["gs", "s3", "az"]


@pytest.fixture(params=STORES)
def remote_folder(request):
    """As for other tests, and on Azure's."""
    return fresh_place(request, request.param)


@pytest.fixture(params=["disk", *STORES])
def folder(request, tmp_path):
    """As for other tests, and on Azure's."""
    in_store = request.param != "disk"
    return fresh_place(request, request.param) if in_store else str(tmp_path / "place")
