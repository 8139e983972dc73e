"""Stages in pods: what pods are asked of Kubernetes, and what their ends mean to Airflow."""

from pathlib import Path
from types import SimpleNamespace

import kubernetes_validate
import pytest
import yaml
from kubernetes.client import ApiClient, models

from tests.dags.test_dags import ORDER

DOCKER = Path(__file__).parents[2] / "docker"
TEMPLATE = DOCKER / "kubernetes" / "stage-pod.yaml"
VERSION = "1.33"


@pytest.fixture(scope="module")
def pods(load, write, tmp_path_factory):
    """The DAG of a pipeline file whose stages run in pods."""
    folder = tmp_path_factory.mktemp("pipelines")
    write(folder / "shop.toml", name="shop", retries=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINSPIRE_POD", str(TEMPLATE))
        loaded = load(folder)
    assert loaded.import_errors == {}
    return loaded.dags["shop"]


def pod_of(task):
    made = task.build_pod_request_obj(dry_run=True)
    return ApiClient().sanitize_for_serialization(made)


def test_every_stage_is_a_pod(pods):
    assert {type(task).__name__ for task in pods.tasks} == {"TwinspirePod"}
    order = [task.task_id for task in pods.topological_sort() if task.task_id != "refresh"]
    assert order == ORDER
    assert pods.get_task("train").max_active_tis_per_dag == 1
    assert pods.get_task("features").retries == 4


def test_without_the_setting_kubernetes_is_not_imported(load, write, tmp_path, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "twinspire.airflow.stage_pods", raising=False)
    write(tmp_path / "shop.toml", name="shop")
    loaded = load(tmp_path)
    assert "TwinspirePod" not in {type(t).__name__ for t in loaded.dags["shop"].tasks}
    assert "twinspire.airflow.stage_pods" not in sys.modules


@pytest.mark.parametrize("name", [*ORDER, "refresh"])
def test_a_stages_pod_is_valid_in_kubernetes(pods, name):
    pod = pod_of(pods.get_task(name))
    kubernetes_validate.validate(pod, VERSION, strict=True)
    container = next(c for c in pod["spec"]["containers"] if c["name"] == "base")
    assert container["command"] == ["bash", "-c"]
    (line,) = container["args"]
    command = {"day": "twinspire {% if", "turn": "await-turn", "close": "close-day"}.get(name, name)
    assert f"twinspire {command.removeprefix('twinspire ')}" in line
    assert '"${TWINSPIRE_PYTHON:-python}"' in line
    assert line.endswith("| tail -n 1 | tee /airflow/xcom/return.json")


def test_fields_of_the_pod_template_are_kept(pods):
    spec = yaml.safe_load(TEMPLATE.read_text())["spec"]
    made = pod_of(pods.get_task("train"))
    container = next(c for c in made["spec"]["containers"] if c["name"] == "base")
    for key in ("image", "resources", "securityContext", "envFrom"):
        assert container[key] == spec["containers"][0][key]
    assert spec["containers"][0]["envFrom"][0]["secretRef"]["name"] == "twinspire-stage"
    assert "env" not in container or not container["env"]  # nothing secret by value
    for key in ("serviceAccountName", "securityContext", "restartPolicy"):
        assert made["spec"][key] == spec[key]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/opt/twinspire/pipelines", "/data", "/airflow/xcom"} <= mounts


def ended(code: int | None, reason: str | None = None) -> models.V1Pod:
    """A pod whose container ended so."""
    terminated = None if code is None else models.V1ContainerStateTerminated(exit_code=code)
    nothing = {"image": "", "image_id": "", "ready": False, "restart_count": 0}
    state = models.V1ContainerState(terminated=terminated)
    statuses = [models.V1ContainerStatus(name="base", state=state, **nothing)]
    status = models.V1PodStatus(phase="Failed", reason=reason, container_statuses=statuses)
    return models.V1Pod(metadata=models.V1ObjectMeta(name="index-1"), status=status)


@pytest.mark.parametrize(
    "pod, error",
    [
        (ended(75), "AirflowException"),
        (ended(None), "AirflowException"),
        (ended(137, "Evicted"), "AirflowException"),
        (ended(1), "StageFailed"),
        (ended(2), "StageFailed"),
        (ended(4), "StageFailed"),
        (ended(137), "StageFailed"),
        (ended(99), "AirflowSkipException"),
    ],
)
def test_only_transient_failures_are_retried(pods, monkeypatch, pod, error):
    """KubernetesPodOperator's own cleanup says that the pod failed; the API server is left out."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from airflow.sdk.exceptions import AirflowFailException

    task = pods.get_task("index")
    pushed = []
    keep = SimpleNamespace(try_number=2, xcom_push=lambda key, value: pushed.append((key, value)))
    context = {"ti": keep}
    answers = {"is_istio_enabled": False, "process_pod_deletion": True}
    answers |= dict.fromkeys(("patch_already_checked", "_push_xcom_with_fan_out"))
    answers |= dict.fromkeys(("_read_pod_container_states", "_read_pod_events"))
    for name, answer in answers.items():
        monkeypatch.setattr(task, name, lambda *a, _answer=answer, **k: _answer, raising=False)
    monkeypatch.setattr(
        KubernetesPodOperator,
        "execute",
        lambda self, context: self.cleanup(pod, pod, {"status": "x"}, context),
    )
    with pytest.raises(Exception) as raised:
        task.execute(context)
    assert type(raised.value).__name__ == error
    assert isinstance(raised.value, AirflowFailException) == (error == "StageFailed")
    if error == "AirflowSkipException":
        assert pushed == [("return_value", {"status": "x"})]


@pytest.mark.parametrize("file", ["serving.yaml", "stages.yaml", "stage-pod.yaml"])
def test_the_file_is_valid_by_kubernetes_schema(file):
    documents = list(yaml.safe_load_all((DOCKER / "kubernetes" / file).read_text()))
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_serving_manifests_refer_to_each_other():
    parts = {
        part["kind"]: part
        for part in yaml.safe_load_all((DOCKER / "kubernetes" / "serving.yaml").read_text())
    }
    deployment = parts["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        parts["Service"]["spec"]["selector"],
        parts["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    scaler = parts["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler["minReplicas"] > parts["PodDisruptionBudget"]["spec"]["minAvailable"]
    claims = {
        part["metadata"]["name"]
        for part in yaml.safe_load_all((DOCKER / "kubernetes" / "stages.yaml").read_text())
    }
    for volume in deployment["spec"]["template"]["spec"]["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
