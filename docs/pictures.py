"""Takes the pictures of README and guide, `docs/pictures/`, with headless Chromium.

    python docs/pictures.py PIPELINE_FILE [USER]

They show the report of the live version, and the inspector with the list of one of its users.
"""

import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image

from index_builder.registry.registry import Registry
from twinspire_core.config import pipeline as pipelines
from twinspire_core.contracts.artifact_files import REPORT

PICTURES = Path(__file__).parent / "pictures"
WIDTH = 1280
COLOURS = 128  # of a picture: text and lines need no more, and files stay small
_CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
_STARTS_IN = 120  # seconds


def main(file: str, user: str | None = None) -> None:
    """Takes both pictures."""
    pipeline = pipelines.load(Path(file))
    registry = Registry(pipeline.registry.root, pipeline.name)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / REPORT
        report.write_bytes(registry.read(registry.find(), REPORT))
        take(report.as_uri(), "report", height=1080)
    with serving(file) as address:
        if user is None:
            found = re.search(r"\?user=([^\"&]+)", httpx.get(address).text)
            assert found, "the version carries users"
            user = found[1]
        take(f"{address}/?user={user}&k=8", "inspector", height=960)


def take(address: str, name: str, height: int) -> None:
    """Takes a picture of what is seen of a page without scrolling."""
    PICTURES.mkdir(exist_ok=True)
    picture = PICTURES / f"{name}.png"
    with tempfile.TemporaryDirectory() as profile:
        options = (f"--user-data-dir={profile}", f"--window-size={WIDTH},{height}")
        command = [*_CHROMIUM, *options, f"--screenshot={picture}", address]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    Image.open(picture).convert("RGB").quantize(COLOURS).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} KB")


@contextmanager
def serving(file: str) -> Iterator[str]:
    """Serves a pipeline's live version; the server's address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "twinspire", "serve", file, "--port", str(port)]
    with subprocess.Popen(command) as server:
        try:
            wait_for(f"{address}/readyz")
            yield address
        finally:
            server.terminate()


def wait_for(address: str) -> None:
    """Waits until a server answers well."""
    until = time.monotonic() + _STARTS_IN
    while True:
        try:
            httpx.get(address).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
