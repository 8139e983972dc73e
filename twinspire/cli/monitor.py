"""Whether what is live is well."""

import os

from twinspire.cli.options import (
    JsonLine,
    PipelineFile,
    end_with_json,
    json_on_error,
    open_pipeline,
    say,
)
from twinspire.cli.serve import TOKEN
from twinspire.runs.notifications import notify
from twinspire_core.errors import Unwell
from twinspire_core.terminal import doing


def monitor(pipeline: PipelineFile, as_json: JsonLine = False) -> None:
    """Ask the live version as users do, and tell somebody (notify.command) if it is too old, too
    slow, or has no good list for somebody.

    Asked are users that it knows, users with histories made up of its items, and strangers: of the
    server at monitor.server with the token of TWINSPIRE_TOKEN, or, without one, of the version in
    this process. Limits are in [monitor] of the pipeline file. Nothing is written.

    Exit codes: 5 a limit is passed or a list is wrong, 99 nothing is live yet.
    """
    with json_on_error("monitor", as_json) as known:
        p = open_pipeline(pipeline)
        with doing("asking the live version"):
            from twinspire.monitor.check import check

            health = check(p, os.environ.get(TOKEN, "").strip() or None)
        known |= health.as_json()
        if health.problems:
            reason = "\n".join(f"{problem}." for problem in health.problems)
            again = "twinspire monitor PIPELINE"
            code = Unwell.exit_code
            notify(p, "unwell", health.day, reason, stage="monitor", exit_code=code, command=again)
            raise Unwell(reason)
        say(f"{p.name} is well: {health.version} answers, and no limit is passed.")
        end_with_json({**known, "status": "well"}, as_json)
