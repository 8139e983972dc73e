"""`make test-system`: runs the tests marked `system`, and writes what came of them into
docs/system-tests.md, whose other lines are written by hand.

Arguments are pytest's; with any, less may have run than all of them, and nothing is written.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "system-tests.md"
BEGIN = "<!-- outcomes: begin -->"
END = "<!-- outcomes: end -->"
OUTCOMES = ("passed", "failed", "skipped")


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as home:
        report = Path(home, "junit.xml")
        command = [sys.executable, *str.split("-m pytest -m system -o junit_family=xunit1")]
        command += [f"--junitxml={report}"]
        code = subprocess.run([*command, *arguments], cwd=ROOT).returncode
        if not arguments and report.exists():
            outcome_of = outcomes(ElementTree.parse(report).getroot())
            PAGE.write_text(with_outcomes(PAGE.read_text(), outcome_of))
    return code


def with_outcomes(page: str, found: str) -> str:
    """The page with other outcomes between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{found}\n{END}{rest.split(END)[1]}"


def outcomes(report: ElementTree.Element) -> str:
    """What pytest reports as JUnit's XML, as a table: files where a test failed or was skipped, and the sum."""
    counts, seconds = defaultdict(Counter), Counter()
    for case in report.iter("testcase"):
        ends = {child.tag for child in case}
        outcome = (
            "failed"
            if ends & {"failure", "error"}
            else "skipped"
            if "skipped" in ends
            else "passed"
        )
        counts[case.get("file")][outcome] += 1
        seconds[case.get("file")] += float(case.get("time"))
    # The page lists all files already, so only those where something did not pass.
    rows = [
        (f"`{file}`", counts[file], seconds[file])
        for file in sorted(counts)
        if counts[file]["failed"] or counts[file]["skipped"]
    ]
    rows.append((f"{len(counts)} files", sum(counts.values(), Counter()), sum(seconds.values())))
    lines = (
        f"| {name} | {' | '.join(str(found[o]) for o in OUTCOMES)} | {took:.0f} |"
        for name, found, took in rows
    )
    return f"""{date.today()}, commit {commit()}, Python {platform.python_version()}, {os.cpu_count()} cores:

| File | {" | ".join(OUTCOMES)} | seconds |
|---|---:|---:|---:|---:|
{chr(10).join(lines)}"""


def commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no")
    return f"`{git('rev-parse', '--short', 'HEAD')}`" + (
        " and uncommitted changes" if changes else ""
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
