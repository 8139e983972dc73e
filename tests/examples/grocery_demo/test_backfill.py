"""The line of the demo that moves: what a stage says, by Airflow's log of its task."""

import json

import pytest

from examples.grocery_demo.backfill import last_words

HOOK = "airflow.providers.standard.hooks.subprocess.SubprocessHook"
BEGINNING = [("task", "DAG bundles loaded"), (HOOK, "Running command: …"), (HOOK, "Output:")]
STAGE = [(HOOK, "Training on 60 days"), (HOOK, "pass 1 of 6   25%  loss 5.368")]


def write(file, entries):
    lines = [json.dumps({"event": event, "logger": logger}) + "\n" for logger, event in entries]
    file.write_text("".join(lines))
    return file


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (BEGINNING, "starting …"),
        ([*BEGINNING, *STAGE], "pass 1 of 6   25%  loss 5.368"),
        ([*BEGINNING, *STAGE[:1], ("task", "Task heartbeat")], "Training on 60 days"),
        ([*BEGINNING, *[(HOOK, "x" * 100)] * 100, (HOOK, "done")], "done"),
    ],
)
def test_the_last_line_of_the_stage(entries, said, tmp_path):
    assert last_words(write(tmp_path / "attempt=1.log", entries)) == said


def test_a_log_that_is_not_there_or_ends_in_half_a_line(tmp_path):
    assert last_words(tmp_path / "attempt=1.log") == "starting …"
    log = write(tmp_path / "attempt=1.log", [*BEGINNING, *STAGE])
    log.write_text(log.read_text() + '{"event": "pass 2')
    assert last_words(log) == STAGE[-1][1]
