"""Asking a published version for lists: `recommend` and `similar`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.text import Text

from twinspire.cli.shared import (
    Allow,
    AsJson,
    Deny,
    PipelineFile,
    VersionOption,
    by_attribute,
    open_pipeline,
    print_json,
    terminal_table,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.display.quality_tables import list_name
from twinspire_core.display.table import Table, number, short_name
from twinspire_core.errors import UsageError
from twinspire_core.terminal import console, doing
from twinspire_core.terminal import out as standard_output

if TYPE_CHECKING:  # they load NumPy, Arrow and more
    from serving.answers.answer import Answer
    from serving.requests.request_model import ListRequest
    from serving.version.loaded_version import Version


def _valid_id(value: str | None) -> str | None:
    """The id, if it is valid UTF-8. Python reads other bytes of a command line as surrogates."""
    try:
        (value or "").encode()
    except UnicodeEncodeError as e:
        raise UsageError(f"An id must be UTF-8; found {value!a}. Correct it.") from e
    return value


K = Annotated[int, typer.Option("--k", "-k", min=1, help="How many items a list has.")]


def recommend(
    pipeline: PipelineFile,
    user: Annotated[
        str | None,
        typer.Option(
            callback=_valid_id,
            help="A user's id. The version must store users (serving.user_store).",
        ),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A JSON Lines file with one request per line.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="With --queries: write the lists to this .jsonl or .parquet file. Default: standard"
            " output.",
        ),
    ] = None,
    k: K = 10,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--keep-seen",
            help="Whether to leave out items of the history. Default: serving.exclude_seen.",
        ),
    ] = None,
    new_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help=(
                "Smallest share of items in a list that are new to the user. Default:"
                " lists.new_share."
            ),
        ),
    ] = None,
    rules: Annotated[
        bool,
        typer.Option("--rules/--no-rules", help="Whether to apply the rules in [lists]."),
    ] = True,
    allow: Allow = None,
    deny: Deny = None,
    source: Annotated[
        str | None,
        typer.Option(
            help=(
                "The source of the items: ranked, fixed_order or one of sources.use. Default: the ranker if it"
                " serves, else the fixed order."
            )
        ),
    ] = None,
    version: VersionOption = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to one user, or to every request of a file.

    A line of --queries names a user that the version stores, such as `{"user": "1"}`, or describes
    a user, such as `{"history": ["981760", "1029743"], "age_group": "35-44"}`. Features that a
    line leaves out count as missing.
    """
    if (user is None) == (queries is None):
        raise UsageError("Give either --user or --queries.")
    if user == "":
        raise UsageError("--user must be a user's id; it is empty. Give an id as the logs have it.")
    if out and not queries:
        raise UsageError("--out is the file for the lists of --queries. Give --queries, too.")
    with doing("loading the libraries"):
        from serving.requests.request_model import ListRequest
        from serving.version.filters import Filter

    opened = open_pipeline(pipeline)
    filters = by_attribute(allow), by_attribute(deny)
    options = ListRequest(
        k=k,
        source=source,
        exclude_seen=exclude_seen,
        new_share=new_share,
        rules=rules,
        filter=Filter.of(opened.corpus.attributes, *filters),
    )
    if queries:
        recommend_file(opened, queries, out, options, version, as_json)
    elif user is not None:
        recommend_user(opened, user, options, version, as_json)


def similar(
    pipeline: PipelineFile,
    item: Annotated[str, typer.Option(callback=_valid_id, help="An item's id.")],
    k: K = 10,
    allow: Allow = None,
    deny: Deny = None,
    version: VersionOption = None,
    as_json: AsJson = False,
) -> None:
    """List the items that are most similar to an item, by their vectors."""
    filters = by_attribute(allow), by_attribute(deny)
    with doing("loading the libraries"):
        from serving.requests.request_model import ListRequest
        from serving.version.filters import Filter

    opened = open_pipeline(pipeline)
    options = ListRequest(k=k, filter=Filter.of(opened.corpus.attributes, *filters))
    similar_items(opened, item, options, version, as_json)


# Items of a history that a table shows
_SHOWN = 10


def recommend_user(
    pipeline: Pipeline,
    user: str,
    options: "ListRequest",
    version: str | None = None,
    as_json: bool = False,
) -> None:
    """Prints a user's history and the items recommended to the user.

    Raises:
      UsageError: the version stores no users.
    """
    from serving.requests.query_rows import user_error
    from serving.version.loaded_version import Version

    with doing("opening the version"):
        opened = Version.open(pipeline, version)
        if opened.users is None:
            raise user_error(pipeline, opened.id, user)
        result = user_result(opened, user, options)
    if as_json:
        print_json(result, ensure_ascii=False)
        return
    for item in result["items"]:
        item["source"] = list_name(item["source"])
    who = user if result["known"] else f"{user}, who is unknown"
    history = result["history"]
    tables = [_items_table(result["items"], f"For {who}, by {opened.id}")]
    if history:
        shown = "newest first"
        if len(history) > _SHOWN:
            shown = f"the newest {_SHOWN} of {len(history)}"
        tables.insert(0, _items_table(history[:_SHOWN], f"History of {user}, {shown}"))
    else:
        standard_output.print(f"{user} has no history in version {opened.id}.")
    # Next to each other if the terminal is wide enough
    standard_output.print(Columns(tables, padding=(0, 3)))
    _print_warnings(result["notes"])


def recommend_file(
    pipeline: Pipeline,
    queries: str,
    out_file: str | None,
    options: "ListRequest",
    version: str | None = None,
    as_json: bool = False,
) -> None:
    """Answers a file of requests and prints a summary."""
    from serving.request_files import recommend_lines
    from serving.version.loaded_version import Version

    with doing("opening the version"):
        opened = Version.open(pipeline, version)
    done = recommend_lines(opened, queries, out_file, options)
    # Lists on standard output must stay alone there
    messages = standard_output if out_file else console
    if as_json:
        messages.print(json.dumps(done, ensure_ascii=False), soft_wrap=True)
        return
    messages.print(
        f"{done['queries']:,} lists of {options.k} by {done['version']},"
        f" {list_name(done['source'])}, in {done['seconds']} s ({done['users_per_s']:,} a"
        f" second): {done['out']}",
        soft_wrap=True,
    )
    for name, text in _COUNTS.items():
        if lists := done[name]:
            messages.print(f"{lists:,} lists {text}.")
    for warning in done["notes"]:
        messages.print(warning, style="yellow")
    if unknown := done["unknown_users"]:
        who = "1 user is" if unknown == 1 else f"{unknown:,} users are"
        messages.print(f"{who} unknown to the version.")


# What happened to some lists of a file, by the name of its count
_COUNTS = {
    "short": "are shorter, because no more items were left",
    "few_new": "have too few new items, because no more were left",
    "widened": "needed a wider search",
}


def similar_items(
    pipeline: Pipeline,
    item: str,
    options: "ListRequest",
    version: str | None = None,
    as_json: bool = False,
) -> None:
    """Prints the items whose vectors are nearest to an item's own."""
    from serving.answers import recommend as nearest
    from serving.version.loaded_version import Version

    with doing("opening the version"):
        opened = Version.open(pipeline, version)
        answer = nearest.similar(opened, item, options)
    described = opened.describe(opened.rows([item]))[0]
    items = _items(opened, answer)
    warnings = list(answer.warnings.of(0))
    if as_json:
        print_json(
            {"version": opened.id, "item": described, "items": items, "notes": warnings},
            ensure_ascii=False,
        )
        return
    name = described.get("name")
    like = f"{item} ({short_name(name)})" if name else item
    standard_output.print(_items_table(items, f"Like {like}, by {opened.id}"))
    _print_warnings(warnings)


def user_result(version: "Version", user: str, options: "ListRequest") -> dict[str, Any]:
    """A user's history (newest first) and recommendations, as JSON-able values."""
    from serving.answers import recommend as answers

    answer = answers.recommend(version, [{"user": user}], options)
    history: list[str] = []
    if answer.history is not None:
        history = answer.history[0].as_py() or []
    known = None if answer.known is None else bool(answer.known[0])
    items = _items(version, answer)
    for item, source in zip(items, answer.main_names()[0], strict=False):
        item["source"] = source
    return {
        "version": version.id,
        "user": user,
        "known": known,
        "source": answer.list_sources[0],
        "exclude_seen": version.leaves_out_seen(options.exclude_seen),
        **{key: json.loads(value) for key, value in options.filter._asdict().items() if value},
        "history": version.describe_ids(history[::-1]),
        "items": items,
        "notes": list(answer.warnings.of(0)),
    }


def _items(version: "Version", answer: "Answer") -> list[dict[str, Any]]:
    """The list of the only query: display columns and score of each item, best first."""
    rows = answer.rows[0][: answer.counts[0]]
    scores = answer.scores[0].tolist()  # longer than the list if too few items were left
    return [
        {**item, "score": round(score, 6)}
        for item, score in zip(version.describe(rows), scores, strict=False)
    ]


def _items_table(items: list[dict[str, Any]], title: str) -> RenderableType:
    """Items with their ranks and the columns that are not empty, under a title."""
    # A dict keeps the order in which items first name the columns
    names = dict.fromkeys(name for item in items for name in item)
    columns = [name for name in names if any(_cell(item.get(name)) for item in items)]
    rows = [
        [str(rank), *(short_name(_cell(item.get(name))) for name in columns)]
        for rank, item in enumerate(items, 1)
    ]
    prose = [place for place, name in enumerate(columns, 1) if name not in ("item", "score")]
    table = Table(head=["", *columns], rows=rows, names=(0, 1), prose=prose)
    return Group(Text(title, style="bold"), terminal_table(table))


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return number(value, 4)
        case _:
            return str(value)


def _print_warnings(warnings: list[str]) -> None:
    for warning in warnings:
        standard_output.print(warning, style="yellow")
