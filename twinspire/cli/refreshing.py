"""Between trainings: a later catalogue for the live version's towers."""

from typing import Annotated

import typer

from twinspire.cli.daily import json_on_error
from twinspire.cli.options import (
    Date,
    Force,
    PipelineFile,
    PromoteOption,
    open_pipeline,
    parse_date,
    print_json,
)
from twinspire.runs.refresh import refresh as refresh_catalogue


def refresh(
    pipeline: PipelineFile,
    date: Date,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            metavar="VERSION",
            help="Whose towers to take; by default the live version's.",
        ),
    ] = None,
    promote: PromoteOption = "auto",
    force: Force = False,
) -> None:
    """Publish the live version's towers with the catalogue as of the end of a day, without
    training.

    Items are those of the newest snapshot at or before the day: new and changed ones are embedded,
    the others keep their vectors, withdrawn ones are gone. Popularity, co-occurrence and stored
    users count events up to the day, as far as they are there. The gate judges the index and how
    much of the catalogue changed; exit 4 when refused.
    """
    with json_on_error("refresh") as told:
        told["day"] = date
        print_json(
            refresh_catalogue(
                open_pipeline(pipeline),
                parse_date(date),
                force=force,
                promote=promote,
                version=version,
            )
        )
