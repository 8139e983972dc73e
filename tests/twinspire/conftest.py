"""A small pipeline file, of a shop whose logs, working files and registry lie next to it."""

import pytest

FILE = """
pipeline = {{ name = "shop", work_root = "{0}/work", time_zone = "Asia/Tokyo" }}
source = {{ events = "{0}/events/dt={{date}}/" }}
columns = {{ user = "user", item = "item", time = "time" }}
registry = {{ root = "{0}/registry" }}
train = {{ wait = "1h" }}
[features]
user = {{ kind = "id", tower = "query" }}
item = {{ kind = "id", tower = "item" }}
"""


@pytest.fixture
def shop_file(tmp_path):
    file = tmp_path / "shop.toml"
    file.write_text(FILE.format(tmp_path))
    return file
