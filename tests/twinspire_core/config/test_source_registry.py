import pytest

from tests.tiny_pipeline import tiny_pipeline
from twinspire.runs.stages import STAGES, config_digest
from twinspire_core.config.source_registry import ENTRIES, add_own
from twinspire_core.errors import UsageError


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("history.py", "", "the name of a built-in list"),
        ("ranked.py", "", "the name of a built-in list"),
        ("most_popular.py", "", "the name of a built-in list"),
        ("steady.py", "import nothing_of_this_name", "ModuleNotFoundError"),
        ("steady.py", "class Steady(", "SyntaxError"),
        ("steady.py", "class Steady:\n    name = 'steady'", "must define one Source"),
    ],
)
def test_a_file_that_is_no_source_is_refused_and_stays_unknown(tmp_path, name, text, said):
    before = dict(ENTRIES)
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said):
        add_own(str(tmp_path / name))
    assert before == ENTRIES


def test_a_file_that_changed_makes_what_was_listed_by_it_stale(tmp_path):
    file = tmp_path / "steady.py"
    code = "class Steady:\n    name = 'steady'\n    fits = {}\n"

    def digests(text):
        file.write_text(text)
        p = tiny_pipeline(sources={"use": ["two_tower", str(file)]})
        return {name: config_digest(p, stage) for name, stage in STAGES.items()}

    try:
        before, same, after = digests(code), digests(code), digests(code + "# changed\n")
    finally:
        ENTRIES.pop("steady", None)
    assert before == same
    assert {"features", "measure"} <= {name for name in before if before[name] != after[name]}
