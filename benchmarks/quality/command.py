"""What the benchmarks' commands share: settings on the command line, the machine, files that appear
whole.
"""

import os
import platform
import tomllib
from pathlib import Path


def parse_setting(text: str) -> tuple[str, object]:
    """`train.temperature=0.1` as a key of the pipeline file and its value."""
    key, _, value = text.partition("=")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as e:
        raise SystemExit(
            f"--set takes KEY=VALUE, the value as in a pipeline file; found {text!r}: {e}."
        ) from e


def machine() -> dict[str, str | int | None]:
    """What it runs on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": memory,
    }


def cpu_seconds() -> float:
    """CPU time of this process and of those that it started and that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def write_whole(file: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    draft = file.with_suffix(".part")
    draft.write_text(text)
    os.replace(draft, file)
