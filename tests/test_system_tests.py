"""What `make test-system` writes down, that its page names all that it runs, and that the suite knows
what belongs together.
"""

import re
from pathlib import Path

from tests import conftest, system_tests

TESTS = sorted(Path(conftest.ROOT, "tests").rglob("test_*.py"))


def run_by(file: Path) -> str:
    """Which command runs a file of tests."""
    line = r"^(pytestmark\b.*|@|    |.*marks=)pytest\.mark\.system\b"
    marks = re.findall(line, file.read_text(), re.M)
    if not marks:
        return "`make test`"
    some = all(mark == "@" or mark.endswith("marks=") for mark in marks)
    return "both" if some else "`make test-system`"


def test_the_page_names_each_file_of_system_tests_and_what_runs_it():
    """Add a row to docs/system-tests.md: what the file shows, what runs it, what it needs."""
    rows = re.findall(
        r"^\| `(tests/\S+)` \| [^|]{20,} \| (both|`make \S+`) \|",
        system_tests.PAGE.read_text(),
        re.M,
    )
    actual = {str(file.relative_to(conftest.ROOT)): run_by(file) for file in TESTS}
    within = {
        name: command
        for name, command in actual.items()
        if name.startswith("tests/system/") or command != "`make test`"
    }
    assert sorted(rows) == sorted(within.items())
