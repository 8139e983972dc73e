"""What a run of a day can be told: its parameters, and which of them make no sense."""

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

PARAMETERS = {
    "day": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Day",
        description=(
            "The day of logs to work on, in the pipeline's time zone. Empty: yesterday. Not for"
            " backfills."
        ),
    ),
    "mode": Param(
        "incremental",
        enum=["incremental", "full"],
        title="Mode",
        description=(
            "incremental: go on from the newest earlier version. full: from scratch, on the"
            " training window."
        ),
    ),
    "force": Param(
        False, type="boolean", title="Force", description="Do stages again that are done."
    ),
    "late": Param(
        False,
        type="boolean",
        title="Late events",
        description="Also do a day again if events of it came after it was run.",
    ),
    "promote": Param(
        "auto",
        enum=["auto", "yes", "no"],
        title="Promote",
        description=(
            "auto: live if the gate accepts it and no later day is live. yes: also an older day."
            " no: not live."
        ),
    ),
    "refresh": Param(
        False,
        type="boolean",
        title="Refresh",
        description=(
            "Do not train: bring the live version's catalogue up to the day. Not for backfills."
        ),
    ),
}


def refuse_unknown_parameters(context):
    """Airflow accepts any key silently, and gives all days of a backfill the same ones."""
    run = context["dag_run"]
    given = run.conf or {}
    if unknown := sorted(set(given) - set(PARAMETERS)):
        found = ", ".join(map(ascii, unknown))  # somebody may have made up long ones
        raise AirflowFailException(
            f"The parameters are {', '.join(PARAMETERS)}; found {found[:500]}."
        )
    if given.get("day") and run.run_type == "backfill":
        raise AirflowFailException(
            "A backfill takes its days from its range of dates; found the parameter day ="
            f" {given['day']}, which would make every run the same day. Leave it out, or trigger a"
            " manual run."
        )
    if given.get("refresh") and run.run_type == "backfill":
        raise AirflowFailException(
            "A backfill makes versions of past days; with the parameter refresh none is made."
        )
