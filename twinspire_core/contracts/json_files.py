"""JSON files that stages exchange, read and written by pydantic models.

Files of earlier releases may lack keys, and files of later releases may have more. Both can be read: a
missing key gets its default, and an unknown key is kept. An object that is written again has exactly the keys
with which it was read.
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
        # Not `exclude_unset` when dumping, because such objects are also parts of models that write their
        # defaults.
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
    """`timings.json` of an attempt: measured times. They differ between two runs with the same inputs, so no
    digest covers the file.
    """

    FILE: ClassVar[str] = "timings.json"


def to_json(content: Any) -> bytes:
    """JSON in the form of these files."""
    # Not by pydantic, which writes numbers differently from Python: 0.00001 instead of 1e-05
    return json.dumps(content, indent=1).encode()
