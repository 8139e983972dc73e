"""Shared by the benchmarks: facts about the machine, CPU seconds, atomic writes, and virtual environments
with other projects' libraries.
"""

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

NEEDS = {
    "tfrs": ("tensorflow-recommenders==0.7.7", "tensorflow==2.21.0", "tf-keras==2.21.0"),
    "neighbours": ("hnswlib==0.8.0", "faiss-cpu==1.15.1", "numpy==2.4.6"),
    "irspack": ("irspack==0.5.2", "scipy==1.17.1", "numpy==2.4.6"),
    "rectools": ("rectools[torch]==0.19.0", "torch==2.15.0", "pandas==2.3.3", "numpy==1.26.4"),
    "scipy": ("scipy==1.17.1", "numpy==2.4.6"),
}
"""Packages of each environment."""


def machine() -> dict[str, str | int | None]:
    """Facts about the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": memory,
    }


def cpu_seconds() -> float:
    """CPU time of this process and of its ended child processes."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def write_whole(file: Path, text: str) -> None:
    """Writes a file atomically."""
    draft = file.with_suffix(".part")
    draft.write_text(text)
    os.replace(draft, file)


def environment(name: str, work: Path) -> Path:
    """The Python of an environment, which is made unless it exists."""
    home = work / f"env-{name}"
    mark = home / "ready"
    wanted = hashlib.sha256(" ".join(NEEDS[name]).encode()).hexdigest()
    if not mark.exists() or mark.read_text() != wanted:
        print(f"Making an environment for {', '.join(NEEDS[name])}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run(
            [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *NEEDS[name]],
            check=True,
        )
        mark.write_text(wanted)
    return home / "bin" / "python"
