"""Compares two outputs of a stage, file by file."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

RANDOM = {
    "DONE.json": "the time of the commit",
    "transform/transform_fn/saved_model.pb": "TensorFlow's order of nodes",
    "transform/transform_fn/fingerprint.pb": "a hash of the graph's bytes",
}
"""Files that differ between any two runs on one runner, and why."""


@dataclass
class Group:
    """Files of one folder.

    Attributes:
      equal: how many are the same bytes in both.
      random: files that differ also between two runs on one runner.
      wrong: those that differ otherwise, or that only one output has.
    """

    equal: int = 0
    random: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def compare(one: Path, other: Path) -> dict[str, Group]:
    """Compares two folders.

    Returns:
      By top folder, or file at the top.
    """
    here, there = _digests(one), _digests(other)
    groups: dict[str, Group] = defaultdict(Group)
    for path in sorted(here.keys() | there.keys()):
        group = groups[path.partition("/")[0]]
        if here.get(path) == there.get(path):
            group.equal += 1
        elif path in here and path in there and path in RANDOM:
            group.random.append(path)
        else:
            group.wrong.append(path)
    return dict(groups)


def reasons(group: Group) -> list[str]:
    """Why files of a group differ by chance."""
    return sorted({RANDOM[path] for path in group.random})


def _digests(folder: Path) -> dict[str, str]:
    """The digest of each file's bytes, by its path."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
