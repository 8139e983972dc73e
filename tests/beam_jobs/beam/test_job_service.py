"""Flink is asked to end a job: by a server that answers as Flink 1.19 does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.beam import job_service
from beam_jobs.beam.job_service import Flink

NOBODY = "localhost:1"
"""An endpoint where no job service answers."""


class FakeFlink(ThreadingHTTPServer):
    """Jobs by id, each a name with a state; what is cancelled ends at the next look but one."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs = {}
        self.later = {}
        self.looks = 0

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        assert self.path == "/jobs/overview"
        jobs = self.server.jobs
        self.server.looks += 1
        if self.server.looks == 3:
            jobs.update(self.server.later)
        listed = [{"jid": jid, "name": name, "state": state} for jid, (name, state) in jobs.items()]
        for jid, (name, state) in jobs.items():
            if state == "CANCELLING":
                jobs[jid] = (name, "CANCELED")
        self.answer(200, {"jobs": listed})

    def do_PATCH(self):
        jid, _, query = self.path.removeprefix("/jobs/").partition("?")
        name, state = self.server.jobs[jid]
        assert query == "mode=cancel" and state == "RUNNING"
        self.server.jobs[jid] = (name, "CANCELLING")
        self.answer(202, {})

    def answer(self, code, told):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def flink():
    with FakeFlink() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_only_running_jobs_of_the_name_are_cancelled(flink):
    others = {"b": ("mine", "FINISHED"), "c": ("yours", "RUNNING"), "d": ("mine-2", "RUNNING")}
    flink.jobs = {"a": ("mine", "RUNNING"), **others}
    assert Flink(flink.address).cancel("mine", awaited=False) == 1
    assert flink.jobs == {"a": ("mine", "CANCELED"), **others}
    assert Flink(flink.address).cancel("mine", awaited=False) == 0


def test_a_job_that_was_just_handed_over_is_waited_for(flink):
    flink.later = {"a": ("mine", "RUNNING")}
    assert Flink(flink.address).cancel("mine", awaited=True) == 1
    assert flink.jobs["a"] == ("mine", "CANCELED")


def test_flink_is_asked_also_where_the_job_service_is_gone(flink):
    flink.jobs = {"a": ("mine", "RUNNING")}
    assert "reports mine as cancelled" in job_service.cancel("mine", NOBODY, flink.address)
    assert flink.jobs["a"] == ("mine", "CANCELED")
    assert job_service.cancel("mine", NOBODY, flink.address) == ""


def test_something_else_answers_or_nothing(flink):
    flink.shutdown()
    flink.server_close()
    with pytest.raises(job_service.NOT_CANCELLED):
        job_service.cancel("mine", NOBODY, flink.address)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ([], ""),
        (["--flink_master=[auto]"], ""),
        (["--flink_master=jobmanager:8081"], "http://jobmanager:8081"),
        (["--flink_master=https://flink.example"], "https://flink.example"),
    ],
)
def test_the_address_is_one_of_the_options(given, address):
    assert job_service.flink_of(PipelineOptions(given)) == address
