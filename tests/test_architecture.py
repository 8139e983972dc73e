"""The map in docs/architecture.md is the tree: every path that it names exists, and every folder is
named. The recipes in CONTRIBUTING.md name paths that exist, too.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text()
NAMED = set(re.findall(r"`([a-z_]+/[\w/.]*)`", PAGE))


def test_every_path_exists():
    assert len(NAMED) > 50 and [path for path in sorted(NAMED) if not (ROOT / path).exists()] == []


def test_every_path_of_the_recipes_exists():
    recipes = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`([a-z_]+/[\w/.]*)`", recipes))
    assert len(named) > 20 and [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_folder_of_the_packages_has_a_line():
    table = set(re.findall(r"^\| `([\w/]+)/` \|", PAGE, re.M))
    packages = ("twinspire_core", "beam_jobs", "model", "index_builder", "serving", "twinspire")
    folders = {
        str(f.parent.relative_to(ROOT))
        for top in packages
        for f in (ROOT / top).rglob("__init__.py")
    }
    assert folders - table == set()
