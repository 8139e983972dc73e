import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("beam_jobs", "index_builder", "model", "serving", "twinspire", "twinspire_core")
FILES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in FILES
    if re.search(r"^ +>>> (?!.*doctest: \+SKIP)", file.read_text(), re.M)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted > 0 and done.failed == 0
