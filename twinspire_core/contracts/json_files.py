"""JSON files that stages hand to each other, read and written through pydantic models.

A file that an earlier release wrote may lack keys, and one of a later release may have more. Both
can be read: a missing key gets its default, and an unknown one is kept as it is. An object that is
written again has exactly the keys that it was read with.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from twinspire_core import storage


class JsonPart(BaseModel):
    """An object of a JSON file.

    Its keys are written in the order of its fields, then those without a field, then the fields that
    `BEHIND` names.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    BEHIND: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _with_the_keys_it_has(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Not `exclude_unset` when dumping: such objects also lie in models that write their defaults.
        dumped = dump(self)
        names = [name for name in dumped if name not in self.BEHIND] + list(self.BEHIND)
        return {name: dumped[name] for name in names if name in self.model_fields_set}


class StoredModel(BaseModel):
    """A whole file; `FILE` is its name in whatever folder it lies."""

    FILE: ClassVar[str]

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Reads the content of a file."""
        return cls.model_validate_json(content)

    @classmethod
    def read(cls, home: str | Path) -> Self:
        """Reads the file of a folder, local or in an object store.

        Raises:
          FileNotFoundError: there is none.
        """
        return cls.parse(storage.read_bytes(storage.join(str(home), cls.FILE)))

    @classmethod
    def find(cls, home: str | Path) -> Self | None:
        """Reads the file of a folder, local or in an object store; None where there is none."""
        try:
            return cls.read(home)
        except FileNotFoundError:
            return None

    def write(self, home: str | Path) -> None:
        """Writes the file into a folder, local or in an object store."""
        storage.write_bytes(storage.join(str(home), self.FILE), self.dump())

    def dump(self) -> bytes:
        """The content of the file."""
        return to_json(self.model_dump())


class JsonFile(JsonPart, StoredModel):
    """A file that keeps the keys that it was read with."""


class Timings(JsonFile):
    """`timings.json` of an attempt: what a stage measured of the clock. Two runs of the same inputs differ
    in it, so no digest covers it.
    """

    FILE: ClassVar[str] = "timings.json"


def to_json(content: Any) -> bytes:
    """JSON as these files have it."""
    # Not pydantic's: it writes numbers in another way than Python does, 0.00001 instead of 1e-05
    return json.dumps(content, indent=1).encode()
