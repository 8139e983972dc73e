"""Serving a published version over HTTP."""

import os
from pathlib import Path
from typing import Annotated

import typer

from twinspire.cli.options import PipelineFile, open_pipeline
from twinspire_core.errors import UsageError
from twinspire_core.terminal import console, doing

TOKEN = "TWINSPIRE_TOKEN"  # noqa: S105


def serve(
    pipeline: PipelineFile,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Holds the tokens that clients may send, one a line. Without it, the variable"
            f" {TOKEN} is the token.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A further host name that requests may use; may be repeated. Without a token, others"
            " are refused where only this machine can ask.",
        ),
    ] = None,
    poll: Annotated[
        float,
        typer.Option(min=0.1, max=3600, help="Seconds between two looks for a new live version."),
    ] = 2.0,
    max_k: Annotated[int, typer.Option(min=1, help="The most items of one list.")] = 1000,
    max_items: Annotated[
        int, typer.Option(min=1, help="The most items of one request's lists together.")
    ] = 100_000,
    max_body_kb: Annotated[
        int, typer.Option(min=1, help="The largest request body, in KiB.")
    ] = 1024,
    max_batch: Annotated[
        int, typer.Option(min=1, help="The most queries that are answered as one batch.")
    ] = 64,
    max_new_items: Annotated[
        int,
        typer.Option(
            min=0,
            help="The most new items that events (`/v1/events`) may add to the version's catalogue; 0"
            " adds none.",
        ),
    ] = 10_000,
    client_timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=3600,
            help="Seconds that a client may take to send headers, then a body, and to take an answer.",
        ),
    ] = 10.0,
    access_log: Annotated[
        bool,
        typer.Option(
            "--access-log", help="Log a line per request, without `?…`; costs throughput."
        ),
    ] = False,
) -> None:
    """Serve the live version over HTTP: recommendations, similar items, health, metrics.

    `curl 127.0.0.1:8000/v1/recommend -d '{"query": {"user": "1"}, "k": 10}'` asks for a user that
    the version knows; `{"query": {"history": ["981760", "1029743"], "age_group": "35-44"}}`
    describes one. `/docs` lists all paths and the keys of this pipeline's queries. `/` is a page
    for people: any user's history beside the list, and why each item is in it.

    A new live version takes over without a pause. If it is damaged, the old one keeps answering, and
    `/v1/version` says why. SIGTERM ends the server after the answers in flight.

    Only this machine can ask, unless `--host` says otherwise; set a token then.
    """
    opened = open_pipeline(pipeline)
    tokens = _tokens(token_file)
    with doing("loading the libraries"):
        from serving.http.server_settings import LOOPBACK, Settings

    if not tokens and host not in LOOPBACK:
        console.print(
            f"Everybody who reaches {host}:{port} can ask: no token is set ({TOKEN} or"
            " --token-file)."
        )
    # The batches' thread and the event loop share the cores; more threads per operation would get
    # in their way.
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
    )
    serve_forever(opened, settings, host, port, access_log=access_log)


def _tokens(file: Path | None) -> tuple[str, ...]:
    if file is None:
        token = os.environ.get(TOKEN, "").strip()
        return (token,) if token else ()
    try:
        lines = file.read_text().splitlines()
    except OSError as e:
        raise UsageError(
            f"--token-file names a file that holds a token; {file} cannot be read: {e}."
        ) from e
    tokens = tuple(line.strip() for line in lines if line.strip())
    if not tokens:
        raise UsageError(f"--token-file names a file that holds a token; {file} is empty.")
    return tokens
