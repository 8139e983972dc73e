import os
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from index_builder.registry.registry import Registry
from serving.http.server_settings import Settings
from tests.serving import conftest as circle
from tests.serving.http.conftest import answering, shop
from twinspire.cli.main import app
from twinspire_core.errors import TwinspireError, UsageError

OUTSIDE = "what lies outside"
LINK = "2024-01-01-aaaaaaaa"


@pytest.fixture(scope="module")
def home(tmp_path_factory, towers):
    """A published version, and a whole copy of it outside of the registry, with another report."""
    home = tmp_path_factory.mktemp("names")
    pipeline = shop(home)
    version = circle.publish(pipeline, towers, home / "staged")
    inside = home / "registry" / pipeline.name / "versions" / version
    assert inside.is_dir()
    outside = home / "outside" / version
    outside.parent.mkdir()
    os.system(f"cp -r {inside} {outside}")
    (outside / "report.html").write_text(OUTSIDE)
    (inside.parent / LINK).symlink_to(outside)
    return home


@pytest.fixture(scope="module")
def hostile(home) -> list[str]:
    version = next((home / "outside").iterdir()).name
    return [
        f"../../../outside/{version}",
        f"{home}/outside/{version}",
        f"../versions/{version}",
        f"{version}/",
        f"{version}/../{version}",
        f"{version}\0",
        f"{version}\nx",
        f"{version}/report.html",
        "x" * 100_000,
        *str.split(".. . / * %2e%2e%2f ~ $HOME"),
    ]


def test_no_command_takes_a_version_that_the_log_does_not_name(home, hostile):
    before = sorted(home.rglob("*"))
    for name in hostile:
        for command in (
            ["show", "circle.toml", name],
            ["report", "circle.toml", name],
            ["promote", "circle.toml", name],
            ["rollback", "circle.toml", "--to", name],
            ["pin", "circle.toml", name],
            ["recommend", "circle.toml", "--user", "anna", "--version", name],
        ):
            command[1] = str(home / "circle.toml")
            done = CliRunner().invoke(app, command)
            assert isinstance(done.exception, UsageError), (command, done.output)
            assert len(str(done.exception)) < 2000 and OUTSIDE not in done.output
    assert sorted(home.rglob("*")) == before


def test_the_registry_itself_reads_no_such_name(home, hostile):
    registry = Registry(str(home / "registry"), "circle")
    for name in [*hostile, LINK]:
        for read in (registry.manifest, registry.verify, registry.open):
            with pytest.raises(TwinspireError):
                read(name)
        with pytest.raises(TwinspireError):
            registry.read(name, "report.html")


def test_no_address_of_the_inspector_leads_out(home, hostile):
    with answering(shop(home), Settings(poll=0.05)) as client:
        for name in hostile:
            for path in ("/report?version=", "/?user=anna&version=", "/?user=anna&against="):
                answer = client.get(path + quote(name[:2_000], safe=""))
                assert answer.status_code == 404, (path, name)
                assert OUTSIDE not in answer.text and len(answer.content) < 20_000
        answer = client.get(f"/report?version={LINK}")
        assert answer.status_code == 503 and OUTSIDE not in answer.text
        for path in ("/../outside", "/%2e%2e/outside", "/..%2f..%2foutside", "//etc/passwd", "/\0"):
            assert client.get(quote(path, safe="/%.")).status_code == 404


@pytest.mark.parametrize(
    "name", ["..", "../x", "/x", "a/b", "a\\0", "a\\n", "A", "", "a b", "ä", "x" * 300, ".hidden"]
)
def test_a_pipeline_is_named_by_what_a_folder_may_be_called(tmp_path, name):
    text = circle.PIPELINE.replace('name = "circle"', f'name = "{name}"')
    assert text != circle.PIPELINE
    (tmp_path / "circle.toml").write_text(text)
    done = CliRunner().invoke(app, ["versions", str(tmp_path / "circle.toml")])
    assert isinstance(done.exception, UsageError), done.output
