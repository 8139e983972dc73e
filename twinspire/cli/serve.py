"""`twinspire serve`: serves the live version over HTTP."""

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from twinspire.cli.shared import (
    PipelineFile,
    open_pipeline,
)
from twinspire_core.errors import UsageError
from twinspire_core.terminal import console, doing

_PORT = 8000

TOKEN = "TWINSPIRE_TOKEN"  # noqa: S105


def serve(
    pipeline: PipelineFile,
    host: Annotated[
        str,
        typer.Option(help="The address to listen on. 0.0.0.0 means all addresses of this machine."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port. 0 chooses a free port.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file with the tokens that clients may send, one per line. Default: the environment"
            f" variable {TOKEN}.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=(
                "Accept requests with this host name. May be repeated. Needed only for a server on"
                " 127.0.0.1 without a token: by default it accepts only localhost and 127.0.0.1."
            ),
        ),
    ] = None,
    poll: Annotated[
        float,
        typer.Option(min=0.1, max=3600, help="Seconds between two checks for a new live version."),
    ] = 2.0,
    max_k: Annotated[int, typer.Option(min=1, help="Most items in one list.")] = 1000,
    max_items: Annotated[
        int, typer.Option(min=1, help="Most items in all lists of one request.")
    ] = 100_000,
    max_body_kb: Annotated[
        int, typer.Option(min=1, help="The largest request body, in KiB.")
    ] = 1024,
    max_batch: Annotated[int, typer.Option(min=1, help="Most queries in one batch.")] = 64,
    max_new_items: Annotated[
        int,
        typer.Option(
            min=0,
            help="Most new items that events (`/v1/events`) may add to the catalogue.",
        ),
    ] = 10_000,
    client_timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=3600,
            help="Seconds that a client may take to send the headers, to send the body, and to read the"
            " answer.",
        ),
    ] = 10.0,
    access_log: Annotated[
        bool,
        typer.Option(
            "--access-log",
            help="Log one line per request, without the query string. This costs throughput.",
        ),
    ] = False,
) -> None:
    """Serve the live version over HTTP: recommendations, similar items, health, metrics.

    `curl 127.0.0.1:8000/v1/recommend -d '{"query": {"user": "1"}, "k": 10}'` asks for a user that
    the version stores. `{"query": {"history": ["981760", "1029743"], "age_group": "35-44"}}`
    describes a user. `/docs` lists all paths and the keys of this pipeline's queries. `/` is a web
    page that says whether the recommender is well; it also shows any user's list, and why each item is
    in the list.

    The server switches to a new live version without a pause. If the new version is damaged,
    the old one keeps answering, and `/v1/version` says why. After SIGTERM the server finishes open requests
    and ends.

    By default only this machine can send requests. If you set `--host`, set a token, too.
    """
    opened = open_pipeline(pipeline)
    tokens = _tokens(token_file)
    with doing("loading the libraries"):
        from serving.http.server_settings import LOOPBACK, Settings

    if not tokens and host not in LOOPBACK:
        console.print(
            f"No token is set: everybody who reaches {host}:{port} can send requests. Set {TOKEN} or"
            " --token-file."
        )
    # Before TensorFlow is imported, which reads these variables once.
    # The threads of batches and of the event loop share the cores, so an operation must not use several
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
    with doing("loading the libraries"):
        from serving.app import serve as serve_forever

    settings = Settings(
        tokens=tokens,
        max_new_items=max_new_items,
        hosts=(*LOOPBACK, *allowed_host) if allowed_host else None,
        poll=poll,
        max_k=max_k,
        max_items=max_items,
        max_body=max_body_kb << 10,
        max_batch=max_batch,
        client_timeout=client_timeout,
        access_log=access_log,
    )
    serve_forever(opened, settings, host, port)


def _tokens(file: Path | None) -> tuple[str, ...]:
    if file is None:
        token = os.environ.get(TOKEN, "").strip()
        return (token,) if token else ()
    try:
        lines = file.read_text().splitlines()
    except OSError as e:
        raise UsageError(
            f"--token-file must be a file of tokens, one per line; {file} cannot be read: {e}."
        ) from e
    tokens = tuple(line.strip() for line in lines if line.strip())
    if not tokens:
        raise UsageError(f"--token-file must be a file of tokens, one per line; {file} is empty.")
    return tokens


def free_port(given: int | None) -> int:
    """The port to serve on.

    Raises:
      UsageError: the given port is taken.
    """
    # Checked before any work, so that a long run does not end with this error
    # For 0, the system chooses a free one
    for port in (_PORT, 0) if given is None else (given,):
        try:
            with socket.create_server(("127.0.0.1", port)) as tried:
                return int(tried.getsockname()[1])
        except OSError as e:
            reason = e
    raise UsageError(
        f"The server needs a free port; {given} cannot be used: {reason}. Choose another port."
    )
