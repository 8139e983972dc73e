"""Readers beside publishers: few of both here, as many as one likes by TWINSPIRE_READS and
TWINSPIRE_VERSIONS.
"""

import os

from benchmarks import registry as trials


def test_every_read_is_whole_and_of_a_version_that_was_live(tmp_path):
    versions, reads = (
        int(os.environ.get(f"TWINSPIRE_{n}", few)) for n, few in (("VERSIONS", 16), ("READS", 200))
    )
    outcome = trials.trial(str(tmp_path / "registry"), tmp_path, versions=versions, reads=reads)
    assert outcome.wrong == [] and len(outcome.reads) >= reads
    assert outcome.actions["publish"] == versions + 1 and outcome.actions["rollback"] >= 2
    assert len({one.version for one in outcome.reads}) > 2, "the live version changed meanwhile"


def test_what_is_wrong_is_found(tmp_path, monkeypatch):
    """A reader who is told another version than the live one."""
    trials.publish(str(tmp_path / "registry"), 0, 3, str(tmp_path))
    book = trials.Registry(str(tmp_path / "registry"), "p")
    oldest, *_, live = book.accepted()
    one = trials.Read(3, 3, live, True, 0.0)
    assert trials.wrong(book.log(), [one]) == []
    for broken in (
        one._replace(version=oldest),
        one._replace(whole=False),
        one._replace(first=1, last=2),
    ):
        assert trials.wrong(book.log(), [broken]) == [broken]
    assert trials.wrong(book.log(), [one._replace(first=1)]) == [], "it went live while it was read"
