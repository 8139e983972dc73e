"""The report of a version: where it is, and how to get at it."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from index_builder.registry.registry import Registry
from twinspire.cli.options import OneVersion, PipelineFile, VersionOption, console, open_pipeline
from twinspire_core import storage
from twinspire_core.errors import UsageError

FILE = "report.html"


def report(
    pipeline: PipelineFile,
    version: OneVersion = None,
    named: VersionOption = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Copy it there; into it, if that is a folder."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Tell where a version's report is, copy it, or open it.

    The report is one page that needs no network: quality by day and by slice, example lists, what
    changed, the gate's verdict. It was made when the version was published. Standard output is its
    place.
    """
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    chosen = registry.find(version or named)
    place = registry.place(chosen, FILE)
    if FILE not in registry.manifest(chosen).files:
        raise UsageError(
            f"Versions carry a report since {FILE} became a part of them; {chosen} was published"
            " before. Later ones have it."
        )
    content = registry.read(chosen, FILE)
    if out:
        place = str(Path(out) / f"{p.name}-{chosen}.html") if Path(out).is_dir() else out
    elif show and storage.is_remote(place):
        place = str(Path.home() / ".cache" / "twinspire" / p.name / f"{chosen}.html")
    if place != registry.place(chosen, FILE):
        storage.write_bytes(place, content)
    print(place, flush=True)
    if show and not webbrowser.open(Path(place).resolve().as_uri()):
        console.print("No browser was found; open the file in one.", highlight=False)
