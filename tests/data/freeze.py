"""Freezes a version as this release writes it, for later releases to read:
`tests/data/artifact_v<number>/`.

    python -m tests.shop FOLDER
    twinspire run FOLDER/shop.toml --from 2024-03-09 --to 2024-03-10
    python -m tests.data.freeze FOLDER NUMBER

The folder holds a pipeline file, a registry with that version alone, and what it answers. It is made once for each
number and then never again: that is the point. 1 and 2 were of artifact format 1, which no release reads any
more; 3 is of format 2.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import lightgbm
from typer.testing import CliRunner

from index_builder.registry.registry import Registry
from twinspire.cli.main import app
from twinspire_core import storage
from twinspire_core.contracts.ranker_files import MODEL
from twinspire_core.contracts.version_manifest import FILE, File, Manifest

HERE = Path(__file__).parent
# What no server reads, and users that nobody asks for: a fifth of them stay
_LEFT_OUT = ("report.html", "metrics.json", "item_tower", "0000?.parquet", "0001[3-5].parquet")
_TREES = 6
# Both a stored user and one who is only described, by the trees, which serve, by the fixed order and by
# sources alone. A request that does not say when it is made is one of now: its answer would change
MOMENT = {"when_hour": 16, "when_weekday": 2}
DESCRIBED = {
    "history": ["i003", "i009", "i021"],
    "device": "phone",
    "city": "c1",
    "when_hour": 9,
    "when_weekday": 0,
}
KNOWN = {"user": "u001"} | MOMENT
ASKED = {
    "a stored user": (KNOWN, ()),
    "a stored user, nothing seen, ranked": (KNOWN, ("--source", "ranked", "--exclude-seen")),
    "a stored user, fixed order": (KNOWN, ("--source", "fixed_order")),
    "a stored user, two-tower": (KNOWN, ("--source", "two_tower")),
    "a stored user, nothing seen, two-tower": (KNOWN, ("--source", "two_tower", "--exclude-seen")),
    "what goes together": ({"user": "u010"} | MOMENT, ("--source", "co_occurrence")),
    "somebody described": (DESCRIBED, ()),
}


def answers(pipeline: Path) -> dict[str, list[list]]:
    """What the version answers, by question: items and scores, best first."""
    similar = _ask("similar", pipeline, "--item", "i021", "--json")
    answered = {
        "like an item": [[item["item"], item["score"]] for item in json.loads(similar)["items"]]
    }
    with tempfile.TemporaryDirectory() as scratch:
        requests, lists = Path(scratch, "requests.jsonl"), Path(scratch, "lists.jsonl")
        for name, (request, options) in ASKED.items():
            requests.write_text(json.dumps(request))
            _ask("recommend", pipeline, "--queries", str(requests), "--out", str(lists), *options)
            listed = json.loads(lists.read_text())
            pairs = zip(listed["items"], listed["scores"], strict=True)
            answered[name] = [list(pair) for pair in pairs]
    return answered


def _ask(command: str, pipeline: Path, *options: str) -> str:
    done = CliRunner().invoke(
        app, [command, str(pipeline), *options, "-k", "5"], catch_exceptions=False
    )
    if done.exit_code:
        raise AssertionError(done.output)
    return done.stdout


def freeze(made: Path, number: int) -> Path:
    """Copies the live version of a shop, with the first trees of its ranker and without `_LEFT_OUT`."""
    home = HERE / f"artifact_v{number}"
    before = Registry(str(made / "registry"), "shop")
    staged, described = before.open(), before.verify(str(before.live()))
    copy = home / "staged"
    shutil.copytree(staged, copy, ignore=shutil.ignore_patterns(FILE, *_LEFT_OUT))
    ranker = lightgbm.Booster(model_file=copy / MODEL)
    (copy / MODEL).write_text(ranker.model_to_string(num_iteration=_TREES))
    files = {
        str(path.relative_to(copy)): File(
            sha256=storage.file_digest(str(path)), size=path.stat().st_size
        )
        for path in copy.rglob("*")
        if path.is_file()
    }
    fields = described.model_dump(exclude={"pipeline", "date", "version", "files"})
    described = Manifest.create(pipeline="shop", day=described.date, files=files, **fields)
    Registry(str(home / "registry"), "shop").publish(
        str(copy), described, accepted=True, reason="frozen"
    )
    shutil.rmtree(copy)
    shutil.copy(made / "shop.toml", home / "shop.toml")
    (home / "answers.json").write_text(json.dumps(answers(home / "shop.toml"), indent=1))
    return home


if __name__ == "__main__":
    print(freeze(Path(sys.argv[1]), int(sys.argv[2])))
