"""docs/artifact-format.md tells of every field that is stored."""

import re
from pathlib import Path

from index_builder.registry.registry import Entry
from twinspire_core.contracts.version_manifest import FORMAT_VERSION, Manifest

TEXT = (Path(__file__).parents[2] / "docs/artifact-format.md").read_text()


def documented(heading):
    section = re.split(r"^#+ ", TEXT, flags=re.M)
    rows = next(part for part in section if part.startswith(heading))
    return re.findall(r"^\| `([a-z_]+)` \|", rows, re.M)


def test_every_field_of_the_manifest_is_documented():
    assert documented("`manifest.json`") == list(Manifest.model_fields)


def test_every_field_of_an_entry_is_documented():
    assert documented("An entry of the log") == list(Entry.model_fields)


def test_the_format_version_is_the_documented_one():
    assert f"Format version {FORMAT_VERSION}." in TEXT
