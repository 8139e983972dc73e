"""What `doctor` reports: checks, and the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from twinspire_core.display.table import Cell, Style, Table
from twinspire_core.version import __version__

State = Literal["ok", "warning", "failure", "absent"]
MARKS = {
    "ok": Cell("✓", Style.GOOD),
    "warning": Cell("!", Style.WARNING),
    "failure": Cell("✗", Style.BAD),
    "absent": Cell("–", Style.DIM),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
      group: `system`, `version`, `import`, `store`, `day` or `runner`.
      name: what was looked at.
      state: `absent` is a part that is not installed, and not a fault.
      found: what was seen.
      remedy: what to do about it, or nothing.
    """

    group: str
    name: str
    state: State
    found: str
    remedy: str = ""


def checks_table(checks: Sequence[Check]) -> Table:
    """All checks, for people."""
    groups = [check.group for check in checks]
    return Table(
        head=["", "what", "found", "what to do"],
        rows=[[MARKS[one.state], one.name, one.found, one.remedy] for one in checks],
        title=f"Twinspire {__version__}",
        names=(0,),
        prose=(1, 2, 3),
        sections=[n for n in range(1, len(groups)) if groups[n] != groups[n - 1]],
    )
