"""What tests publish without the stages that would have made it: any folder, with its manifest."""

from datetime import date
from pathlib import Path

from twinspire_core import storage
from twinspire_core.contracts.version_manifest import File, Manifest


def described(folder: Path | str, pipeline: str, day: date, **fields) -> Manifest:
    actual = storage.list_files(str(folder))
    files = {
        file.path: File(sha256=storage.file_digest(file.uri), size=file.size) for file in actual
    }
    return Manifest.create(
        pipeline=pipeline, day=day, files=files, **{"items": 1, "dimension": 1, **fields}
    )
