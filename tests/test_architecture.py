"""The map in docs/architecture.md is the tree: every path that it names exists, and every folder is
named. The recipes in CONTRIBUTING.md name paths that exist, too.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("page", "least"), [("docs/architecture.md", 50), ("CONTRIBUTING.md", 20)])
def test_every_path_exists(page, least):
    named = sorted(set(re.findall(r"`([a-z_]+/[\w/.]*)`", (ROOT / page).read_text())))
    assert len(named) > least and [path for path in named if not (ROOT / path).exists()] == []


def test_every_folder_of_the_packages_has_a_line():
    page = (ROOT / "docs/architecture.md").read_text()
    table = set(re.findall(r"^\| `([\w/]+)/` \|", page, re.M))
    packages = ("twinspire_core", "beam_jobs", "model", "index_builder", "serving", "twinspire")
    folders = {
        str(f.parent.relative_to(ROOT))
        for top in packages
        for f in (ROOT / top).rglob("__init__.py")
    }
    assert folders - table == set()
