"""### A recommender, retrained on every day of its logs

`day` finds the day of this run and checks whether its logs are there. `turn` waits for earlier days. Then
`features`, `train`, `measure`, `embed`, `index` and `publish` make one version, and `summary` shows the
result. `close` always comes last, so that no later day waits for a run that was killed.

With the parameter `refresh`, a run does not train. Only `refresh` runs: it publishes the live version's
towers with the catalogue as of the end of the day, which need not have ended. It does not wait for other
days, and they do not wait for it.

The day of a scheduled run and of a backfill is its data interval, in the pipeline's time zone. A
manual run works on the parameter `day`, or on yesterday if `day` is empty.

*Triage.* After a red run, the live version stays live. The log of the red task ends with the
reason, and its exit code says who has to act. You may clear any task to run it again: finished stages are
skipped.

- **0** green: done.
- **1** red: a Beam job failed, or there is a bug. The log says which job, and why. Report a bug.
- **2** red: the pipeline file or a parameter is wrong, or `turn` waited too long. Do what the log says,
  then clear the task.
- **3** red: bad data (too few rows, too many malformed rows, anomalies). Ask the owner of the logs. When
  they are corrected, clear `day` and all tasks after it.
- **4** red: the gate refused the version. The live version goes on with the day's catalogue. Read the
  reasons. To overrule them: `twinspire promote PIPELINE VERSION --despite-gate "REASON"`.
- **75** tried again after longer and longer pauses, and red in the end: the logs are late, or the storage
  does not answer. If it is red, find out why the logs are late, then clear `day` and all tasks after it.
- **99** skipped: the day has no logs. `summary` says so.
- **137**, **143** killed. It is tried again once, because its machine may have been shut down. If it is
  killed again, it is red: most likely it is out of memory. Give it more memory, then clear the task.
- **others** red: it crashed, perhaps in a library. Report a bug.

If all tasks stay queued although the scheduler is healthy, restart the scheduler: an idle worker was
killed.

`turn` waits for running earlier days, at most for `train.wait`. Its log names them. If such a run was
killed but is still open, end it: `twinspire close-day PIPELINE --date DAY`.

Airflow does not run days that it missed while it was down. `twinspire status PIPELINE` lists them, and
`twinspire backfill PIPELINE --from DAY --to DAY` runs them, oldest first. To create a backfill here
instead, give its range as instants of the pipeline's time zone, from the first day's midnight to the last
day's end (`2017-10-02T00:00+09:00`, `2017-10-06T23:59+09:00`), and let one day run at a time. On SQLite,
pause the DAG first, and unpause it afterwards. Never clear a run of a cancelled backfill, because it
would stay queued. Create a new backfill.
"""

import shlex
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    BaseOperator,
    DeadlineAlert,
    DeadlineReference,
    Param,
    SyncCallback,
    chain,
)
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from twinspire.airflow.command_tasks import shared_arguments, stage
from twinspire.airflow.pipeline_files import Recommender
from twinspire.airflow.telling_others import tell_of_late_day

PARAMETERS = {
    "day": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Day",
        description=(
            "The day to run, in the pipeline's time zone. Empty: yesterday. Not for backfills."
        ),
    ),
    "mode": Param(
        "incremental",
        enum=["incremental", "full"],
        title="Mode",
        description=(
            "incremental: continue training from the newest earlier version. full: train from scratch, on"
            " the training window."
        ),
    ),
    "force": Param(False, type="boolean", title="Force", description="Run finished stages again."),
    "late": Param(
        False,
        type="boolean",
        title="Late events",
        description="Also run a day again if some of its events came after it was run.",
    ),
    "promote": Param(
        "auto",
        enum=["auto", "yes", "no"],
        title="Promote",
        description=(
            "auto: the version goes live if the gate accepts it and no later day is live. yes: also if a"
            " later day is live. no: it does not go live."
        ),
    ),
    "refresh": Param(
        False,
        type="boolean",
        title="Refresh",
        description=(
            "Do not train, and only renew the live version's catalogue. Not for backfills."
        ),
    ),
}

# Everything from outside is quoted for the shell, even if Airflow has checked it: its settings can
# allow any run name, and whoever may edit XComs can replace the day
DAY = "{{ ti.xcom_pull('day')['day'] | quote }}"
WHICH_DAY = (
    "{% if params.day %}--date {{ params.day | quote }}{% elif dag_run.run_type in ('scheduled',"
    " 'backfill') %}--instant {{ data_interval_start.isoformat() }}{% endif %}"
)
# The list of a run's tasks shows it in the column "Map Index". The name of a run has the next day
BUSINESS_DAY = (
    "{{% if dag_run.run_type in ('scheduled', 'backfill') %}}"
    "{{{{ data_interval_start.in_timezone({zone!r}).to_date_string() }}}}"
    "{{% else %}}{{{{ params.day or (ti.xcom_pull('day') or {{}}).get('day', '') }}}}{{% endif %}}"
)
MODE, PROMOTE = "--mode {{ params.mode | quote }}", "--promote {{ params.promote | quote }}"
OPEN_UNLESS_REFRESH = "{% if params.refresh %}which-day{% else %}open-day{% endif %}"
UNLESS_REFRESH = "{% if params.refresh %}exit 0; {% endif %}"
FORCE = "{% if params.force %}--force{% endif %}"
LATE = "{% if params.late %}--late{% endif %}"
RUN = "--run {{ run_id | quote }}"
RUN_UNLESS_REFRESH = "{% if not params.refresh %}" + RUN + "{% endif %}"
STAGES = {
    "features": f"{MODE} {LATE}",
    "train": MODE,
    "measure": "",
    "embed": "",
    "index": "",
    "publish": PROMOTE,
}


def refuse_unknown_parameters(context: Any) -> None:
    """Refuses parameters that Airflow accepts although they mean nothing here."""
    run = context["dag_run"]
    # A backfill takes its days from its range of dates, and makes versions of them
    of_others = ("day", "refresh") if run.run_type == "backfill" else ()
    refused = sorted(
        name
        for name, value in (run.conf or {}).items()
        if name not in PARAMETERS or (value and name in of_others)
    )
    if refused:
        names = ", ".join(map(ascii, refused))  # they may be long
        raise AirflowFailException(
            f"The parameters are {', '.join(PARAMETERS)}; a backfill, whose days are those of its range, has"
            f" neither day nor refresh. Found {names[:500]}. Leave these out."
        )


def skip_if(refresh: bool) -> Callable[[Any], None]:
    """A check before a task, which skips it in runs that only refresh, or in all other runs."""

    def check(context: Any) -> None:
        if context["params"]["refresh"] is refresh:
            raise AirflowSkipException(
                "this run only refreshes the catalogue" if refresh else "this run trains"
            )

    return check


def deadline(recommender: Recommender) -> DeadlineAlert | None:
    """When a scheduled run is late, and the function that is called then."""
    if recommender.deadline is None:
        return None
    return DeadlineAlert(
        # The logical date is the start of the day, but the run is due after its end
        reference=DeadlineReference.DAGRUN_LOGICAL_DATE,
        interval=timedelta(days=1) + recommender.deadline,
        callback=SyncCallback(tell_of_late_day, {"file": str(recommender.file)}),
    )


def work_of(recommender: Recommender) -> list[BaseOperator]:
    """The tasks that make a day's version, in their order."""
    # One run at a time, so that two runs do not share the machine's memory. `turn` keeps the days in order,
    # and `train` gives way to an earlier day that started after it
    alone = {"train": 1, "measure": 1, "publish": 1}
    first = {"features": skip_if(refresh=True)}
    return [
        stage(
            name,
            recommender,
            f"--date {DAY} {options} {FORCE} {RUN}",
            max_active_tis_per_dag=alone.get(name),
            pre_execute=first.get(name),
            publishes=name == "publish",
        )
        for name, options in STAGES.items()
    ]


def daily_dag(recommender: Recommender, dag_arguments: Mapping[str, Any]) -> DAG:
    """The daily run of one recommender.

    Args:
      dag_arguments: what `recommender_dag` was given for Airflow's `DAG`.
    """
    business_day = BUSINESS_DAY.format(zone=recommender.zone)
    with DAG(
        recommender.name,
        schedule=recommender.timetable,
        catchup=False,
        params=PARAMETERS,
        user_defined_filters={"quote": shlex.quote},
        doc_md=(__doc__ or "").replace("PIPELINE", shlex.quote(str(recommender.file))),
        deadline=deadline(recommender),
        **shared_arguments(
            recommender, "recommender", dag_arguments, map_index_template=business_day
        ),
    ) as made:
        day = stage(
            "day",
            recommender,
            f"{WHICH_DAY} {RUN_UNLESS_REFRESH}",
            name=OPEN_UNLESS_REFRESH,
            pre_execute=refuse_unknown_parameters,
            # Named by its URI, so that recommenders of the same logs have the same inlet
            inlets=[Asset(recommender.logs)] if recommender.logs else [],
        )
        # However many days wait, only the next one holds a slot. The more days are ahead of a day, the less
        # often it asks. Not one run at a time: an earlier day that starts late would wait for the slot of a
        # day that waits for it. The command gives up after `train.wait`
        turn = stage(
            "turn",
            recommender,
            f"--date {DAY} --wait 60 {RUN}",
            name="await-turn",
            before=UNLESS_REFRESH,
        )
        work = work_of(recommender)
        refresh = stage(
            "refresh",
            recommender,
            f"--date {DAY} {PROMOTE} {FORCE}",
            max_active_tis_per_dag=1,
            pre_execute=skip_if(refresh=False),
            publishes=True,
        )
        # none_failed: it also runs after a skipped day, to say why. After a failed one the run stays red
        summary = stage("summary", recommender, f"--date {DAY}", trigger_rule="none_failed")
        # A teardown comes last even if a task was killed or gave up, or if somebody marked the run as
        # failed. It does not make a failed run green
        close = stage("close", recommender, RUN, name="close-day").as_teardown()
        chain(day, turn, *work, summary, close)
        chain(day, refresh, summary)
    return made
