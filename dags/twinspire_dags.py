"""### A recommender, made fresh from every day of its logs

`day` finds out which day this run is about and whether its logs are there, `turn` lets earlier days
go first, then `features`, `train`, `measure`, `embed`, `index` and `publish` make one version, and
`summary` says what came of it. `close` comes last however the run ends, so that a run that was killed keeps
no later day waiting.

With the parameter `refresh`, a run does not train: `refresh` alone publishes the live version's
towers with the catalogue as of the end of the day, which need not have ended. It keeps no other day
waiting, and waits for none.

The day of a scheduled run and of a backfill is its data interval, in the pipeline's time zone. A
manual run works on the parameter `day`, or on yesterday when it is left empty.

*Triage.* A red run serves users nothing that the gate has not accepted: the version that was live
stays live. The log of the red task ends with the reason, and its exit code says who has to act. Any
task may be cleared and run again; what is done is not done twice.

- **0** green: done.
- **1** red: a Beam job failed, or a bug; the log says which job, and why. Report a bug.
- **2** red: the pipeline file or a parameter is wrong, or `turn` waited in vain. Mend it as the log
  says, clear the task.
- **3** red: bad data (too few rows, too many malformed ones, anomalies). Ask the owner of the logs;
  when they are mended, clear `day` and all below it.
- **4** red: the gate refused the version; what is live goes on with the day's catalogue. Read the
  reasons; to overrule them: `twinspire promote PIPELINE VERSION --despite-gate "REASON"`.
- **75** tried again, later and later, red in the end: logs not there yet, storage away.
  When red, see why the logs are late, then clear `day` and all below it.
- **99** skipped: nothing to do, the day has no logs. `summary` says so.
- **137**, **143** killed, and tried again once: it may have been its machine's end. Red when it is
  killed a second time: most likely out of memory. Give it memory and clear the task.
- **else** red: it crashed, in a library perhaps. Report a bug.

When all tasks stay queued though the scheduler is healthy, start the scheduler again: an idle worker
was killed.

`turn` waits for earlier days that are under way, for `train.wait` at the most; its log names them,
and the command that ends one that nothing runs any more:
`twinspire close-day PIPELINE --date DAY`.

Days missed while Airflow was down are not made up for by themselves: `twinspire status PIPELINE`
lists them, and `twinspire backfill PIPELINE --from DAY --to DAY` runs them, oldest first. To create
a backfill here instead, give its range as instants of the pipeline's zone, from the first day's
midnight to the last day's end (`2017-10-02T00:00+09:00`, `2017-10-06T23:59+09:00`), and let one day
run at a time. On SQLite, pause the DAG before and unpause it after that. Never clear a run of a
cancelled backfill: it would stay queued. Create a new one.
"""

import shlex
from datetime import timedelta

from airflow.sdk import (
    DAG,
    Asset,
    BaseOperator,
    DeadlineAlert,
    DeadlineReference,
    Param,
    SyncCallback,
    chain,
    get_parsing_context,
)
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pipeline_files import Recommender, folder, read
from stage_tasks import stage, task_defaults
from telling_others import tell_of_late_day

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

# What comes from outside is quoted for the shell, even if Airflow has checked it: its settings can
# allow any run name, and whoever may edit XComs can replace the day by anything.
DAY = "{{ ti.xcom_pull('day')['day'] | quote }}"
WHICH_DAY = (
    "{% if params.day %}--date {{ params.day | quote }}{% elif dag_run.run_type in ('scheduled',"
    " 'backfill') %}--instant {{ data_interval_start.isoformat() }}{% endif %}"
)
# The list of a run's tasks shows it in the column "Map Index"; a run's own name has the day after.
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


def refuse_unknown_parameters(context):
    """Airflow accepts any key silently, and gives all days of a backfill the same ones."""
    run = context["dag_run"]
    given = run.conf or {}
    if unknown := sorted(set(given) - set(PARAMETERS)):
        names = ", ".join(map(ascii, unknown))  # they may be long
        raise AirflowFailException(
            f"The parameters are {', '.join(PARAMETERS)}; found {names[:500]}."
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


def skip_if(refresh: bool):
    """Before a task: skips it in runs that only refresh, or in all others."""

    def check(context):
        if context["params"]["refresh"] is refresh:
            raise AirflowSkipException(
                "this run only refreshes the catalogue" if refresh else "this run trains"
            )

    return check


def deadline(recommender: Recommender) -> DeadlineAlert | None:
    """When a scheduled run is late, and what runs then."""
    if recommender.deadline is None:
        return None
    return DeadlineAlert(
        # The logical date is the beginning of the day, which the run is due at the end of.
        reference=DeadlineReference.DAGRUN_LOGICAL_DATE,
        interval=timedelta(days=1) + recommender.deadline,
        callback=SyncCallback(tell_of_late_day, {"file": str(recommender.file)}),
    )


def work_of(recommender: Recommender) -> list[BaseOperator]:
    """The tasks that make a day's version, in their order."""
    # One at a time, so that two runs do not share the machine's memory. `turn` keeps the days in order,
    # and `train` gives way to an earlier day that began after it.
    alone = {"train": 1, "measure": 1, "publish": 1}
    first = {"features": skip_if(refresh=True)}
    announces = {"publish": recommender.name}
    return [
        stage(
            name,
            recommender,
            f"--date {DAY} {options} {FORCE} {RUN}",
            max_active_tis_per_dag=alone.get(name),
            pre_execute=first.get(name),
            announces=announces.get(name, ""),
        )
        for name, options in STAGES.items()
    ]


def dag(recommender: Recommender) -> DAG:
    """The daily run of one recommender."""
    with DAG(
        recommender.name,
        schedule=recommender.timetable,
        catchup=False,
        params=PARAMETERS,
        user_defined_filters={"quote": shlex.quote},
        doc_md=(__doc__ or "").replace("PIPELINE", shlex.quote(str(recommender.file))),
        tags=["twinspire", "recommender"],
        deadline=deadline(recommender),
        default_args={
            **task_defaults(recommender),
            "map_index_template": BUSINESS_DAY.format(zone=recommender.zone),
        },
    ) as made:
        day = stage(
            "day",
            recommender,
            f"{WHICH_DAY} {RUN_UNLESS_REFRESH}",
            name=OPEN_UNLESS_REFRESH,
            pre_execute=refuse_unknown_parameters,
            # Named by its URI: recommenders of the same logs have the same inlet.
            inlets=[Asset(recommender.logs)] if recommender.logs else [],
        )
        # However many days wait, only the next one holds a slot; the more days are before another one,
        # the less often it asks. Not one at a time: an earlier day that begins late would wait for the
        # slot of the day that waits for it. The command gives up after `train.wait`.
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
            announces=recommender.name,
        )
        # none_failed: also after a skipped day, to say why; a failed one stays red.
        summary = stage("summary", recommender, f"--date {DAY}", trigger_rule="none_failed")
        # A teardown comes last also when a task was killed, gave up, or the whole run was marked as
        # failed by hand; it does not make a failed run green.
        close = stage("close", recommender, RUN, name="close-day").as_teardown()
        chain(day, turn, *work, summary, close)
        chain(day, refresh, summary)
    return made


# A worker parses this file for one DAG alone, before each of its tasks.
only = get_parsing_context().dag_id
for one in read(folder())[0]:
    if only in (None, one.name):
        dag(one)
