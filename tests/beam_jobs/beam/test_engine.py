"""Jobs on a real Prism, with workers that are processes of their own: how they fail, and end."""

import signal
import subprocess
import sys
import time
import traceback

import apache_beam as beam
import pytest

from beam_jobs.beam import engine, job_service
from beam_jobs.beam.engine import explain, last_line
from tests import prism
from tests.beam_jobs.beam.remote_steps import (
    BAD,
    Refuses,
    RefusesAgainAndAgain,
    dies,
    errs,
    job,
    sleeps,
)
from twinspire_core.errors import BadData, JobFailed, RunnerFailed, UsageError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with prism.running(tmp_path_factory.mktemp("prism")) as found:
        yield found


@pytest.fixture
def out(tmp_path):
    """An attempt's folder."""
    folder = tmp_path / "shop/dt=2024-03-10/features/0001-0badcafe"
    folder.mkdir(parents=True)
    return folder


def run(options, step, out, **more):
    engine.run_job(options, job(step), str(out), **more)


def test_bad_data_shows_only_its_own_message(service, out, capfd):
    with pytest.raises(BadData) as error:
        run(service.loopback, beam.ParDo(Refuses(out)), out)
    assert str(error.value) == BAD and error.value.exit_code == 3
    text = "".join(capfd.readouterr())
    assert "Traceback" not in text and "ERROR" not in text


def test_bad_data_is_reported_even_if_a_step_leaves_no_note(service, out):
    with pytest.raises(BadData) as error:
        run(service.loopback, beam.ParDo(Refuses(out / "a place that nobody looks at")), out)
    assert str(error.value) == BAD


@pytest.mark.system
def test_bad_data_ends_a_job_that_its_runner_would_try_again(service, out):
    began = time.monotonic()
    with pytest.raises(BadData) as error:
        run(service.options, beam.ParDo(RefusesAgainAndAgain(out)), out)
    assert str(error.value) == BAD and time.monotonic() - began < 60
    assert "CANCELLED" in service.states(job_service.job_name(str(out)))


def test_a_mistake_of_a_step_is_one_line_and_the_rest_is_in_a_file(service, out, capfd):
    with pytest.raises(JobFailed) as error:
        run(service.loopback, beam.Map(errs), out)
    text, name = str(error.value), "twinspire-shop-dt-2024-03-10-features"
    assert "\n" not in text and all(x in text for x in ("KeyError", name, str(out / engine.LOG)))
    assert "Traceback" in (out / engine.LOG).read_text()
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.system
def test_a_worker_that_is_killed_is_no_fault_of_the_job(service, out):
    with pytest.raises(RunnerFailed, match=r"SDK worker disconnected.*Run the same command again"):
        run(service.options, beam.Map(dies), out)


@pytest.mark.system
def test_workers_without_the_package(out, tmp_path):
    why = r"No module named 'tests.*Workers need the same packages"
    with prism.running(tmp_path, pythonpath=tmp_path) as bare, pytest.raises(UsageError, match=why):
        run(bare.options, beam.Map(errs), out)


def test_a_service_that_does_not_answer(out, monkeypatch):
    monkeypatch.setattr(job_service, "CONNECTION", 0.5)
    options = ["--runner=PortableRunner", "--job_endpoint=localhost:1"]
    with pytest.raises(RunnerFailed, match="does not answer at localhost:1"):
        run(options, beam.Map(errs), out)


def test_a_job_that_takes_longer_than_it_may(service, out):
    (out / engine.NOTE).mkdir()  # a note that cannot be read does not end the watch
    with pytest.raises(RunnerFailed, match=r"did not end within 5 s.*was cancelled"):
        run(service.options, beam.Map(sleeps, str(out / "begun")), out, limit=5)
    assert service.states(job_service.job_name(str(out)))


@pytest.mark.system
def test_a_job_whose_time_is_over_before_it_is_handed_over(service, out, monkeypatch):
    """As on a machine that is busy: the watch does not end before there is a job to cancel."""
    wait = job_service.JobService.wait

    def answer_late(self):
        time.sleep(4)
        wait(self)

    monkeypatch.setattr(job_service.JobService, "wait", answer_late)
    with pytest.raises(RunnerFailed, match=r"did not end within 1 s.*was cancelled"):
        run(service.options, beam.Map(sleeps, str(out / "begun")), out, limit=1)
    assert "RUNNING" not in service.states(job_service.job_name(str(out)))


def client(service, out):
    """A client whose job has begun to work."""
    command = [sys.executable, "-m", "tests.beam_jobs.beam.remote_steps", str(out)]
    process = subprocess.Popen([*command, *service.options], cwd=prism.ROOT)
    prism.until((out / "begun").exists)
    return process


@pytest.mark.system
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_job_ends_with_its_client(service, out, stop):
    process = client(service, out)
    process.send_signal(stop)
    assert process.wait(60) in (143, -signal.SIGINT)
    name = job_service.job_name(str(out))
    assert "RUNNING" not in service.states(name) and "CANCELLED" in service.states(name)


FLINK = """\
java.util.concurrent.ExecutionException: org.apache.flink.runtime.client.JobExecutionException
\tat java.base/java.util.concurrent.CompletableFuture.reportGet(CompletableFuture.java:396)
Caused by: org.apache.flink.runtime.io.network.netty.exception.RemoteTransportException: Connection \
unexpectedly closed by remote task manager '10.77.0.12:33119'. This might indicate that it was lost.
\tat org.apache.flink.runtime.io.network.netty.CreditBasedPartitionRequestClientHandler.channel\
Inactive(CreditBasedPartitionRequestClientHandler.java:160)
\t... 21 more
"""


def test_what_a_long_text_of_a_runner_comes_down_to():
    line = last_line(FLINK)
    assert line.startswith("org.apache.flink") and line.endswith("that it was lost.")
    assert isinstance(explain("job", FLINK, "log"), RunnerFailed)
    assert last_line("") == "it gave no reason"


def text_of(raising):
    """What a runner says of a step that looked for a package that is not there."""
    try:
        try:
            import not_there  # noqa: F401
        except ImportError as error:
            raising(error)
    except Exception:
        return traceback.format_exc()


def test_a_package_is_missing_where_the_last_error_says_so():
    def tell_once_more(error):  # as Beam's worker does
        raise RuntimeError("Bundle processing associated with 1 has failed.") from error

    def go_on(error):
        return {}["a mistake after it"]

    missing = explain("job", text_of(tell_once_more), "log")
    assert isinstance(missing, UsageError) and "No module named 'not_there'" in str(missing)
    mistake = explain("job", text_of(go_on), "log")
    assert isinstance(mistake, JobFailed) and "KeyError: 'a mistake after it'" in str(mistake)
