"""docker/compose.yaml as compose's own parser reads it."""

import json
import re
import subprocess
from pathlib import Path

from tests import go_programs

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"
EXAMPLE = (ROOT / "docker" / "env.example").read_text()
ASKED = re.findall(r"(?m)^([A-Z_]+)=$", EXAMPLE)
"""What docker/.env must say."""


def read(folder: Path, values: dict[str, str]) -> subprocess.CompletedProcess:
    """The parser's outcome, with what docker/.env says."""
    parser = go_programs.build(go_programs.COMPOSE, "v2.16.2")
    (folder / "env").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    # The parser has no option for it, but what is included may bring its values along.
    (folder / "all.yaml").write_text(
        f"name: twinspire\ninclude: [{{path: {COMPOSE}, env_file: {folder}/env}}]\n"
    )
    line = [parser, "-format", "json", "all.yaml"]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True)


def project(folder: Path, values: dict[str, str]) -> dict:
    """Compose's model of the file."""
    done = read(folder, values)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
