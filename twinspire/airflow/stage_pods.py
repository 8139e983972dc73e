"""A command of Twinspire as a pod of Kubernetes, made from the template that TWINSPIRE_POD names.

It is imported only if that is set, so that others do not need Airflow's provider for Kubernetes.
"""

from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException

from twinspire.airflow.command_tasks import conclude
from twinspire.airflow.telling_others import ReportLink

# The XCom of a pod: its container writes this file, and a sidecar reads it.
RESULT = "/airflow/xcom/return.json"
# Reasons for which the cluster ends a pod that did not fail
TAKEN_AWAY = ("Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated")


class TwinspirePod(KubernetesPodOperator):
    """A `twinspire` command in a pod: ends as `TwinspireOperator` does.

    Attributes:
      report: as that of `TwinspireOperator`.
    """

    report: str | None = None
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, bash_command: str, template: str, **kwargs: Any):
        super().__init__(
            pod_template_file=template,
            cmds=["bash", "-c"],
            arguments=[f"{bash_command} | tee {RESULT}"],
            do_xcom_push=True,
            on_finish_action="delete_pod",
            **kwargs,
        )
        self.exit_code: int | None = None
        self.result: dict[str, Any] | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Runs the pod, and ends as its command's exit code says."""
        try:
            self.result = super().execute(context)
        except AirflowException:
            # Without an exit code the command never started, or its pod was taken away: Airflow retries
            if not self.exit_code:
                raise
        return conclude(self, context, self.exit_code or 0, self.result or {})

    def cleanup(
        self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None
    ) -> None:
        """Keeps how the command ended, before the pod is deleted."""
        self.exit_code = exit_code(remote_pod, self.base_container_name)
        self.result = xcom_result
        super().cleanup(pod=pod, remote_pod=remote_pod, xcom_result=xcom_result, context=context)


def exit_code(pod: Any, container: str) -> int | None:
    """The exit code of a pod's container; None if it did not end by itself."""
    status = pod.status if pod else None
    if status is None or status.reason in TAKEN_AWAY:
        return None
    for state in status.container_statuses or []:
        if state.name == container and state.state and state.state.terminated:
            return state.state.terminated.exit_code
    return None
