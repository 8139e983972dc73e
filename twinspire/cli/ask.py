"""Asking a published version."""

from threading import Thread
from typing import Annotated

import typer

from twinspire.cli.options import (
    Allow,
    AsJson,
    Deny,
    PipelineFile,
    VersionOption,
    by_attribute,
    open_pipeline,
)
from twinspire_core.config.source_names import AnswerSource
from twinspire_core.errors import UsageError
from twinspire_core.library_loading import load_tensorflow_library
from twinspire_core.terminal import doing

K = Annotated[int, typer.Option("--k", "-k", min=1, help="How many items.")]


def recommend(
    pipeline: PipelineFile,
    user: Annotated[
        str | None, typer.Option(help="A user's id; the version must carry users.")
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="JSON Lines: a request per line, with user, or raw features and history.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="With --queries: where the lists go, .jsonl or .parquet; else to standard output.",
        ),
    ] = None,
    k: K = 10,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--keep-seen",
            help=(
                "Whether items of the history are left out; by default as in serving.exclude_seen."
            ),
        ),
    ] = None,
    new_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help=(
                "At least this share of each list is new to the user; by default lists.new_share."
            ),
        ),
    ] = None,
    rules: Annotated[
        bool,
        typer.Option("--rules/--no-rules", help="Whether the rules in [lists] hold."),
    ] = True,
    allow: Allow = None,
    deny: Deny = None,
    source: Annotated[
        AnswerSource | None,
        typer.Option(
            help=(
                "Whose items; by default the ranker's if it serves, else those in the fixed order."
            )
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="With --user: say of each item of the ranker what moved it most."
        ),
    ] = False,
    version: VersionOption = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to one user, or to every request of a file.

    A line of --queries looks like `{"user": "1"}` or `{"history": ["981760", "1029743"],
    "age_group": "35-44"}`; what it leaves out counts as missing.
    """
    if (user is None) == (queries is None) or (out and not queries):
        raise UsageError("Give --user, or --queries, which --out belongs to.")
    if explain and not user:
        raise UsageError("Items are explained for one --user; files of lists hold no reasons.")
    # It needs no Python, and this machine may have another core.
    Thread(target=load_tensorflow_library).start()
    with doing("loading the libraries"):
        from serving.requests.request_model import ListRequest
        from serving.version.filters import Filter
        from twinspire.cli.show_lists import recommend_file, recommend_user

    opened = open_pipeline(pipeline)
    filters = by_attribute(allow), by_attribute(deny)
    options = ListRequest(
        k=k,
        source=source,
        exclude_seen=exclude_seen,
        new_share=new_share,
        rules=rules,
        explain=explain,
        filter=Filter.of(opened.corpus.attributes, *filters),
    )
    if queries:
        recommend_file(opened, queries, out, options, version, as_json)
    elif user is not None:
        recommend_user(opened, user, options, version, as_json)


def similar(
    pipeline: PipelineFile,
    item: Annotated[str, typer.Option(help="An item's id.")],
    k: K = 10,
    allow: Allow = None,
    deny: Deny = None,
    version: VersionOption = None,
    as_json: AsJson = False,
) -> None:
    """Show the items nearest to an item."""
    filters = by_attribute(allow), by_attribute(deny)
    with doing("loading the libraries"):
        from serving.requests.request_model import ListRequest
        from serving.version.filters import Filter
        from twinspire.cli.show_lists import similar_items

    opened = open_pipeline(pipeline)
    options = ListRequest(k=k, filter=Filter.of(opened.corpus.attributes, *filters))
    similar_items(opened, item, options, version, as_json)
