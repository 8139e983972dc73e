"""Virtual environments of other projects' libraries, made on first use."""

import hashlib
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
"""What each environment holds."""


def environment(name: str, work: Path) -> Path:
    """The Python of an environment, made if it is not there."""
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
