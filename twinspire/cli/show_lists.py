"""What the commands `recommend` and `similar` print."""

import json
from collections.abc import Iterator
from typing import Any, Unpack

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from serving.answers.answer import Answer
from serving.answers.recommend import Asked, recommend, similar
from serving.batch.bulk import recommend_lines
from serving.requests.query_rows import user_error
from serving.version.filters import Values
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline

out = Console()
_SHOWN = 10  # items of a history
# Rows of a table, a millisecond each; a longer list is lines of values with tabs between
_DRAWN = 500


def recommend_user(
    pipeline: Pipeline,
    user: str,
    k: int = 10,
    version: str | None = None,
    as_json: bool = False,
    **asked: Unpack[Asked],
) -> None:
    """Prints a user's history and the items recommended to them.

    Raises:
      UsageError: the version carries no users.
    """
    opened = Version.open(pipeline, version)
    if opened.users is None:
        raise user_error(pipeline, opened.id, user)
    found = user_result(opened, user, k, **asked)
    if as_json:
        _print_json(found)
        return
    history, title = (
        found["history"],
        f"For {user}" + ("" if found["known"] else ", who is unknown") + f", by {opened.id}",
    )
    if not history:
        out.print(f"{user} has no history in version {opened.id}.", highlight=False)
    shown = f"the newest {_SHOWN} of {len(history)}" if len(history) > _SHOWN else "newest first"
    tables = [_table(history[:_SHOWN], f"History of {user}, {shown}")] if history else []
    _print_list(found["items"], title, *tables)
    _print_notes(found)


def recommend_file(
    pipeline: Pipeline,
    queries: str,
    out_file: str | None,
    k: int = 100,
    version: str | None = None,
    as_json: bool = False,
    **asked: Unpack[Asked],
) -> None:
    """Answers a file of requests and prints how it went: to standard error if the lists go to
    standard output.
    """
    opened = Version.open(pipeline, version)
    done = recommend_lines(opened, queries, out_file, k, **asked)
    told = out if out_file else Console(stderr=True)
    if as_json:
        told.print(
            json.dumps(done, ensure_ascii=False), markup=False, highlight=False, soft_wrap=True
        )
        return
    told.print(
        f"{done['queries']:,} lists of {k} by {done['version']},"
        f" {done['source'].replace('_', ' ')}, in {done['seconds']} s ({done['users_per_s']:,} a"
        f" second): {done['out']}",
        highlight=False,
        soft_wrap=True,
    )
    if done["short"]:
        told.print(
            f"{done['short']:,} lists are shorter: no more items were left.", highlight=False
        )
    if done["widened"]:
        told.print(f"{done['widened']:,} lists took a wider search.", highlight=False)
    for note in done["notes"]:
        told.print(note, style="yellow", highlight=False)
    if done["unknown_users"]:
        told.print(
            f"{done['unknown_users']:,} users are not in the version's users.", highlight=False
        )


def similar_items(
    pipeline: Pipeline,
    item: str,
    k: int = 10,
    version: str | None = None,
    as_json: bool = False,
    allow: Values | None = None,
    deny: Values | None = None,
) -> None:
    """Prints the items whose vectors are nearest to an item's own."""
    opened = Version.open(pipeline, version)
    answer = similar(opened, item, k, allow=allow, deny=deny)
    own = opened.describe(opened.rows([item]))[0]
    items = _items(opened, answer, 0)
    found = {"version": opened.id, "item": own, "items": items, "notes": list(answer.notes)}
    if as_json:
        _print_json(found)
        return
    name = f"{item} ({own['name']})" if own.get("name") else item
    _print_list(items, f"Like {name}, by {opened.id}")
    _print_notes(found)


def user_result(version: Version, user: str, k: int, **asked: Unpack[Asked]) -> dict[str, Any]:
    """A user's history (newest first) and recommendations, as JSON-able values."""
    answer = recommend(version, [{"user": user}], k, **asked)
    past = (answer.history[0].as_py() if answer.history is not None else None) or []
    return {
        "version": version.id,
        "user": user,
        "known": bool(answer.known[0]) if answer.known is not None else None,
        "source": answer.source,
        "exclude_seen": asked.get("exclude_seen", False),
        **{key: value for key, value in asked.items() if key in ("allow", "deny") and value},
        "history": _described(version, past[::-1]),
        "items": [
            {**item, "sources": names}
            for item, names in zip(_items(version, answer, 0), answer.sources(0), strict=True)
        ],
        "notes": list(answer.notes),
    }


def _items(version: Version, answer: Answer, query: int) -> list[dict[str, Any]]:
    rows = answer.rows[query][: answer.counts[query]]
    scores = answer.scores[query].tolist()
    return [
        {**item, "score": round(score, 6)}
        for item, score in zip(version.describe(rows), scores, strict=False)
    ]


def _described(version: Version, items: list[str]) -> list[dict[str, Any]]:
    """Display columns of items; those that left the catalogue have their id alone."""
    rows = version.rows(items)
    texts = iter(version.describe(rows[rows >= 0]))
    return [
        next(texts) if row >= 0 else {"item": item} for item, row in zip(items, rows, strict=True)
    ]


def _print_list(items: list[dict[str, Any]], title: str, *beside: RenderableType) -> None:
    """Prints a list, whatever its length, with tables on its left where there is room."""
    if len(items) <= _DRAWN:
        out.print(Columns([*beside, _table(items, title)], padding=(0, 3)))
        return
    out.print(*beside, Text(title, style="bold"), sep="\n")
    for row in _cells(items):
        print(*(" ".join(cell.split()) for cell in row), sep="\t")


def _table(items: list[dict[str, Any]], title: str) -> RenderableType:
    header, *rows = _cells(items)
    table = Table(*header)
    for row in rows:
        table.add_row(*map(Text, row))  # names may hold what rich takes for markup
    return Group(Text(title, style="bold"), table)


def _cells(items: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Names of the columns that say something, and a row per item, its rank first."""
    columns = [
        name for name in dict.fromkeys(key for item in items for key in item) if _any(items, name)
    ]
    yield ["", *columns]
    for rank, item in enumerate(items, 1):
        yield [str(rank), *(_cell(item.get(name)) for name in columns)]


def _any(items: list[dict[str, Any]], name: str) -> bool:
    return any(item.get(name) is not None for item in items)


def _cell(value: Any) -> str:
    # Sources: JSON has them all, a table has room for the one that gave most
    if isinstance(value, list):
        return str(value[0].replace("_", " "))
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _print_notes(found: dict[str, Any]) -> None:
    for note in found["notes"]:
        out.print(note, style="yellow", highlight=False)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)
