"""What `make test-system` writes down, and that the suite knows what belongs together."""

from pathlib import Path
from xml.etree import ElementTree

from tests import conftest, system_tests

REPORT = """
<testsuites><testsuite tests="4">
<testcase file="tests/b.py" name="one" time="1.4"/>
<testcase file="tests/a.py" name="two" time="2.0"><skipped message="no browser"/></testcase>
<testcase file="tests/b.py" name="three" time="2.0"><failure message="wrong"/></testcase>
<testcase file="tests/b.py" name="four" time="0.4"><error message="no port"/></testcase>
</testsuite></testsuites>
"""


def test_outcomes_are_counted_by_file():
    lines = system_tests.page(ElementTree.fromstring(REPORT)).splitlines()
    assert lines[-3:] == [
        "| `tests/a.py` | 0 | 0 | 1 | 2 |",
        "| `tests/b.py` | 1 | 2 | 0 | 4 |",
        "| all | 1 | 2 | 1 | 6 |",
    ]


def test_what_is_told_to_stay_together_or_come_first_is_there():
    for place in {*conftest.TOGETHER, *conftest.FIRST}:
        assert Path(conftest.ROOT, place).exists(), place
