"""The list of users to forget: every reader of logs and users' snapshots drops their records.

    <registry root>/<pipeline>/forgotten/key         32 random bytes, created only if absent
    <registry root>/<pipeline>/forgotten/<digest>    one file for each user

A digest is the keyed BLAKE2b of a user's id. So the list does not reveal who is on it, and cannot be compared
with other lists. Whoever has the key can check whether an id is on the list. The list is in the registry, not
among the working files, because those may be lost and made again from the logs.
docs/decisions/0073-forgetting.md
"""

import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData

FOLDER = "forgotten"
WITHHELD = "(withheld: users were forgotten, and this may be about one of them)"
"""Replaces the text of a line of the logs whose user cannot be read."""
_KEY = "key"
_KEY_BYTES = 32
_DIGEST_BYTES = 20
_DIGEST = re.compile(rf"[0-9a-f]{{{2 * _DIGEST_BYTES}}}")


@dataclass(frozen=True, slots=True)
class ForgottenUsers:
    """The list as readers use it, also on workers: the key of the digests, and the users' digests."""

    key: bytes = b""
    digests: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether anybody is on the list."""
        return bool(self.digests)

    def __contains__(self, user: str) -> bool:
        """Whether a user is on the list."""
        # With an empty list no digest is computed, because a day checks millions of users.
        return bool(self.digests) and _digest(self.key, user) in self.digests

    def drop(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows without users of the list, by `_user`; all rows if there is no such column."""
        if not self.digests or "_user" not in rows.columns:
            return rows
        # One digest for each user, not for each row, because digests are costly.
        gone = [user for user in rows["_user"].drop_nulls().unique() if user in self]
        if not gone:
            return rows
        return rows.filter(~pl.col("_user").is_in(gone).fill_null(False))


NOBODY = ForgottenUsers()


def place(pipeline: Pipeline) -> str:
    """The folder of a pipeline's list."""
    return storage.join(pipeline.registry.root, pipeline.name, FOLDER)


def find(pipeline: Pipeline) -> ForgottenUsers:
    """Reads the list.

    Raises:
      BadData: there are digests, and no key to compare users with.
    """
    folder = place(pipeline)
    digests = frozenset(filter(_DIGEST.fullmatch, storage.list_names(folder)))
    if not digests:
        return NOBODY
    return ForgottenUsers(_read_key(folder), digests)


def add(pipeline: Pipeline, users: Collection[str]) -> None:
    """Puts users on the list who are not on it yet."""
    folder = place(pipeline)
    # If another process was faster, its key stays
    storage.put_if_absent(storage.join(folder, _KEY), secrets.token_bytes(_KEY_BYTES))
    key = _read_key(folder)
    for user in users:
        storage.put_if_absent(storage.join(folder, _digest(key, user)), b"forgotten\n")


def _read_key(folder: str) -> bytes:
    path = storage.join(folder, _KEY)
    try:
        key = storage.read_bytes(path)
    except FileNotFoundError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise BadData(
            f"The key of the list of forgotten users must have {_KEY_BYTES} bytes; {path} has"
            f" {len(key)}. Without the key, later runs would not recognise the users on the list."
            " Restore the key from a copy of the registry. If there is no copy, delete the folder"
            " and forget all users again."
        )
    return key


def _digest(key: bytes, user: str) -> str:
    # With a plain hash, anybody could try ids until one matches a digest of the list.
    return hashlib.blake2b(user.encode(), key=key, digest_size=_DIGEST_BYTES).hexdigest()
