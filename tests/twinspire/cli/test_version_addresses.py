from types import SimpleNamespace

import pytest

from twinspire.cli.daily import addresses_of
from twinspire_core.config.tables.deployment import RegistryConfig


@pytest.mark.parametrize(
    ("root", "server", "report"),
    [
        ("/data", "https://shop.example/", "https://shop.example/report?version=v1"),
        ("gs://b/r", "https://shop.example", "https://shop.example/report?version=v1"),
        ("gs://b/r", None, "https://storage.cloud.google.com/b/r/shop/versions/v1/report.html"),
        ("/data", None, None),
    ],
)
def test_a_server_shows_the_report_else_the_bucket_does(root, server, report):
    pipeline = SimpleNamespace(name="shop", registry=RegistryConfig(root=root, server=server))
    found = addresses_of(pipeline, "v1")
    assert found["folder"] == f"{root}/shop/versions/v1"
    assert found.get("report") == report
