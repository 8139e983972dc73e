"""Versions in MLflow: where MLFLOW_TRACKING_URI is set, a run and a registered model's version for each
published version, and the alias `live`.

The variables are those of MLflow's own client. MLflow never stops a day: what fails is printed, and the next
publication makes up for it. Two publications of a version at the same moment may leave two runs of it.
"""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from index_builder.registry.registry import Registry
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.version_manifest import REPORT, Manifest
from twinspire_core.errors import BadData, UsageError, in_one_line, shorten, with_full_stop
from twinspire_core.terminal import console, doing

if TYPE_CHECKING:
    import httpx

ADDRESS = "MLFLOW_TRACKING_URI"
LIVE = "live"
_VERSION = "twinspire.version"
_SECONDS = 10.0  # for each answer
_PARAMS = 100  # of one request, at most
_LONGEST_PARAM = 6000


def record_in_mlflow(pipeline: Pipeline, version: str | None = None) -> None:
    """Records a version, if that is not done, and moves the alias to the live version.

    Args:
      version: the version that was published; by default only the live one.
    """
    address = os.environ.get(ADDRESS)
    if not address:
        return
    try:
        # Messages of the client could show a password
        if not address.startswith(("http://", "https://")) or "@" in address:
            raise UsageError(
                f"{ADDRESS} must begin with http:// or https://, without a user or a password: set"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            )
        with doing("recording in MLflow"), _client(address) as client:
            _follow(client, pipeline, version)
    except Exception as error:
        console.print(
            f"MLflow is not up to date: {with_full_stop(in_one_line(error))} Nothing else is affected. The"
            " next publication records the live version.",
            soft_wrap=True,
        )


def _client(address: str) -> "httpx.Client":
    import httpx  # it takes long to load, and most commands do not need it

    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return httpx.Client(
        base_url=f"{address.rstrip('/')}/api/2.0/",
        timeout=_SECONDS,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
    )


def _follow(client: "httpx.Client", pipeline: Pipeline, version: str | None) -> None:
    registry = Registry(pipeline.registry.root, pipeline.name)
    live = registry.live()
    numbers = {wanted: _number_of(client, registry, wanted) for wanted in (version, live) if wanted}
    if live:
        alias = {"name": pipeline.name, "alias": LIVE, "version": numbers[live]}
        _post(client, "registered-models/alias", alias)


def _number_of(client: "httpx.Client", registry: Registry, version: str) -> str:
    """The number of a version among those of the registered model; made where there is none."""
    name = registry.pipeline
    wanted = f"name = '{name}' and tags.`{_VERSION}` = '{version}'"
    if found := _get(client, "model-versions/search", filter=wanted).get("model_versions"):
        return str(found[0]["version"])
    manifest = registry.manifest(version)
    run = _record(client, registry, manifest)
    _post(client, "registered-models/create", {"name": name}, unless="RESOURCE_ALREADY_EXISTS")
    tags = _tags(registry, manifest)
    created = {"name": name, "source": run["artifact_uri"], "run_id": run["run_id"], "tags": tags}
    return str(_post(client, "model-versions/create", created)["model_version"]["version"])


def _record(client: "httpx.Client", registry: Registry, manifest: Manifest) -> dict[str, Any]:
    """Makes a run of a version: its settings, its metrics and its report."""
    experiment = {"name": registry.pipeline}
    _post(client, "experiments/create", experiment, unless="RESOURCE_ALREADY_EXISTS")
    answer = _get(client, "experiments/get-by-name", experiment_name=registry.pipeline)
    now = int(datetime.now().timestamp() * 1000)
    start = {
        "experiment_id": answer["experiment"]["experiment_id"],
        "run_name": manifest.version,
        "start_time": now,
        "tags": _tags(registry, manifest),
    }
    run = _post(client, "runs/create", start)["run"]["info"]
    params = _keyed(_settings(manifest))
    for begin in range(0, len(params), _PARAMS):
        some = params[begin : begin + _PARAMS]
        _post(client, "runs/log-batch", {"run_id": run["run_id"], "params": some})
    measured = DayMetrics.find(registry.folder(manifest.version)) or DayMetrics()
    metrics = _keyed(_figures(manifest, measured), timestamp=now, step=0)
    _post(client, "runs/log-batch", {"run_id": run["run_id"], "metrics": metrics})
    # Other stores than the server's own need their own libraries; the tags say where the report is
    if REPORT in manifest.files and run["artifact_uri"].startswith("mlflow-artifacts:"):
        place = run["artifact_uri"].removeprefix("mlflow-artifacts:").lstrip("/")
        report = storage.read_bytes(registry.place(manifest.version, REPORT))
        path = f"mlflow-artifacts/artifacts/{place}/{REPORT}"
        _checked(client.put(path, content=report))
    _post(client, "runs/update", {"run_id": run["run_id"], "status": "FINISHED", "end_time": now})
    return dict(run)


def _tags(registry: Registry, manifest: Manifest) -> list[dict[str, Any]]:
    place = registry.folder(manifest.version)
    return _keyed({_VERSION: manifest.version, "twinspire.place": place})


def _keyed(values: Mapping[str, Any], **more: int) -> list[dict[str, Any]]:
    return [{"key": key, "value": value, **more} for key, value in values.items()]


def _settings(manifest: Manifest) -> dict[str, str]:
    return {
        f"{table}.{key}": (value if isinstance(value, str) else json.dumps(value))[:_LONGEST_PARAM]
        for table, keys in manifest.settings.items()
        for key, value in keys.items()
    }


def _figures(manifest: Manifest, measured: DayMetrics) -> dict[str, float]:
    """What was measured: this version on held-out users, and its parent on the next day."""
    ranker = measured.ranker
    lists = {
        "held_out/two_tower": measured.holdout.candidate,
        "held_out/fixed_order": measured.fixed_order.holdout.candidate,
        "held_out/ranked": ranker.holdout.candidate if ranker else None,
        "next_day/two_tower": measured.progressive,
        "next_day/fixed_order": measured.fixed_order.progressive,
        "next_day/ranked": measured.ranked_progressive,
        **{f"next_day/{name}": measures for name, measures in measured.baselines.items()},
    }
    return {"items": manifest.items} | {
        f"{name}/{measure}".replace("@", "_at_"): value
        for name, measures in lists.items()
        if measures
        for measure, value in measures.values.items()
    }


def _post(client: "httpx.Client", path: str, body: dict[str, Any], unless: str = "") -> Any:
    """The answer to a request; an error of the code `unless` is none."""
    return _checked(client.post(f"mlflow/{path}", json=body), unless).json()


def _get(client: "httpx.Client", path: str, **params: str) -> Any:
    return _checked(client.get(f"mlflow/{path}", params=params)).json()


def _checked(answer: "httpx.Response", unless: str = "") -> "httpx.Response":
    if answer.is_error and not (unless and unless in answer.text):
        # Without the host, whose address may have a password
        raise BadData(
            f"{answer.url.path} failed with status {answer.status_code}: {shorten(answer.text)}."
        )
    return answer
