"""Freezes a version as this release writes it, for later releases to read: `tests/data/artifact_v<format>/`.

    python tests/shop.py FOLDER
    twinspire run FOLDER/shop.toml --from 2024-03-09 --to 2024-03-10
    python tests/data/freeze.py FOLDER

The folder holds a pipeline file, a registry with that version alone, and what it answers. It is made once for each
format and then never again: that is the point.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from typer.testing import CliRunner

from index_builder.manifest import FILE, FORMAT_VERSION
from index_builder.registry import Registry
from twinspire.cli import app

HERE = Path(__file__).parent
# Both a stored user and one who is only described, by the mix and by the two-tower; and what is like an item.
ASKED = {
    "a stored user": ("recommend", "--user", "u001"),
    "a stored user, two-tower": ("recommend", "--user", "u001", "--source", "two_tower"),
    "a stored user, nothing seen": ("recommend", "--user", "u001", "--source", "two_tower", "--exclude-seen"),
    "what goes together": ("recommend", "--user", "u010", "--source", "co_occurrence"),
    "like an item": ("similar", "--item", "i021"),
}
REQUEST = {"history": ["i003", "i009", "i021"], "device": "phone", "city": "c1", "when_hour": 9, "when_weekday": 0}


def answers(pipeline: Path) -> dict[str, list[list]]:
    """What the version answers, by question: items and scores, best first."""
    with tempfile.TemporaryDirectory() as scratch:
        requests = Path(scratch, "requests.jsonl")
        requests.write_text(json.dumps(REQUEST))
        found = {name: _ask(command, pipeline, *options)["items"] for name, (command, *options) in ASKED.items()}
        lists = {name: [[item["item"], item["score"]] for item in items] for name, items in found.items()}
        _ask("recommend", pipeline, "--queries", str(requests), "--out", f"{scratch}/lists.jsonl")
        described = json.loads(Path(scratch, "lists.jsonl").read_text())
        return lists | {
            "somebody described": [list(p) for p in zip(described["items"], described["scores"], strict=True)]
        }


def _ask(command: str, pipeline: Path, *options: str) -> dict:
    done = CliRunner().invoke(app, [command, str(pipeline), *options, "-k", "5", "--json"], catch_exceptions=False)
    return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))


def freeze(made: Path) -> Path:
    """Copies the live version of a shop."""
    home = HERE / f"artifact_v{FORMAT_VERSION}"
    before = Registry(str(made / "registry"), "shop")
    staged, described = before.open(), before.verify(str(before.live()))
    shutil.copytree(staged, home / "staged", ignore=shutil.ignore_patterns(FILE, "report.html"))
    described = described.model_copy(
        update={"files": {path: file for path, file in described.files.items() if path != "report.html"}}
    )
    Registry(str(home / "registry"), "shop").publish(str(home / "staged"), described, accepted=True, reason="frozen")
    shutil.rmtree(home / "staged")
    shutil.copy(made / "shop.toml", home / "shop.toml")
    (home / "answers.json").write_text(json.dumps(answers(home / "shop.toml"), indent=1))
    return home


if __name__ == "__main__":
    print(freeze(Path(sys.argv[1])))
