"""Asking a published version."""

from typing import Annotated, Literal

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
from twinspire_core.errors import UsageError

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
        bool, typer.Option("--exclude-seen", help="Leave out items of the history.")
    ] = False,
    allow: Allow = None,
    deny: Deny = None,
    source: Annotated[
        Literal["mix", "two_tower", "past", "popular_lately", "most_popular", "co_occurrence"]
        | None,
        typer.Option(
            help=(
                "Whose items: by default of the mix, where the version carries one, else of the"
                " two-tower."
            )
        ),
    ] = None,
    version: VersionOption = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to one user, or to every request of a file.

    A line of --queries looks like `{"user": "1"}` or `{"history": ["981760", "1029743"],
    "age_group": "35-44"}`; what it leaves out counts as missing.
    """
    if (user is None) == (queries is None) or (out and not queries):
        raise UsageError("Give --user, or --queries, which --out belongs to.")
    from serving.answers.recommend import Asked
    from twinspire.cli.show_lists import recommend_file, recommend_user

    opened = open_pipeline(pipeline)
    asked: Asked = {
        "exclude_seen": exclude_seen,
        "source": source,
        "allow": by_attribute(allow),
        "deny": by_attribute(deny),
    }
    if queries:
        recommend_file(opened, queries, out, k, version, as_json, **asked)
    elif user is not None:
        recommend_user(opened, user, k, version, as_json, **asked)


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
    filters = {"allow": by_attribute(allow), "deny": by_attribute(deny)}
    from twinspire.cli.show_lists import similar_items

    similar_items(open_pipeline(pipeline), item, k, version, as_json, **filters)
