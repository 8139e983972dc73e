"""Documentation is a contract: pages that follow from the code are fresh, and examples in them
work.
"""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from twinspire.cli.main import app
from twinspire_core.config.feature_kinds import KINDS
from twinspire_core.config.pipeline import Pipeline, load
from twinspire_core.config.tables.base import Strict

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands


def _generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", _generator().PAGES)
def test_generated_pages_are_fresh(page):
    written = (ROOT / page).read_text()
    assert written == _generator().PAGES[page]().rstrip() + "\n", (
        f"{page} is stale: run `make docs`"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does(name):
    assert COMMANDS[name].help
    assert [p.name for p in COMMANDS[name].params if not getattr(p, "help", None)] == []


def _tables(model: type[Strict]):
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Strict):
            yield from _tables(field.annotation)


@pytest.mark.parametrize(
    "model", [*_tables(Pipeline), *KINDS.values()], ids=lambda model: model.__name__
)
def test_every_key_of_the_pipeline_file_says_what_it_means(model):
    assert model.__doc__
    assert [
        key for key, field in model.model_fields.items() if key != "kind" and not field.description
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_pages_name_exist(page):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    text = page.read_text()
    named = re.findall(r"(?:^ *|`|\$ |bin/)twinspire ([a-z]+(?:-[a-z]+)*)", text, re.M)
    assert set(named) <= set(COMMANDS)
    assert set(re.findall(r"`make ([a-z]+)", text)) <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pipeline_files_in_pages_are_valid(page, tmp_path):
    for number, text in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(), re.S)):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        load(file)


@pytest.mark.parametrize("name", ["report", "inspector"])
def test_pictures_show_what_pages_say(name):
    """Take the pictures again after a change of words: `make demo`, then docs/pictures.py."""
    pictures = importlib.import_module("docs.pictures")
    shown = json.loads(pictures.WORDS.read_text())[name]
    assert len(shown) > 10 and set(shown) <= pictures.fixed_words(name)


@pytest.mark.system
def test_the_site_builds_without_a_warning_and_every_page_is_in_its_navigation(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    build = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    home = (tmp_path / "index.html").read_text()
    pages = [page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.html")]
    linked = set(re.findall(r'href="([^"#:]+\.html)"', home))
    assert set(pages) - linked <= {"404.html", "index.html"}
    assert {"decisions/0006-registry.html", "python/model.losses.html"} <= linked
