"""A pool of Python workers: Beam's, which also restarts a worker that was killed, and starts none
where the project is not installed.

Beam's own pool does neither. Flink's TaskManager asks for a worker once and then waits for it
without end, so a worker that is killed before it has called back would hold its job, and with it
the slot, until somebody cancels the job by hand.
"""

import subprocess
import sys
import threading
import time

from apache_beam.portability.api import beam_fn_api_pb2 as api
from apache_beam.runners.worker import worker_pool_main

PAUSE = 1.0
"""Seconds before a worker restarts, so that one that dies at once does not fill the machine."""


class WatchedPool(worker_pool_main.BeamFnExternalWorkerPoolServicer):
    """The pool, as a gRPC service."""

    def StartWorker(
        self, start_worker_request: api.StartWorkerRequest, unused_context: object
    ) -> api.StartWorkerResponse:
        """Starts a worker and watches it. Refuses if the project is not installed."""
        # A worker without the project would not call back. Flink would wait for it for three minutes, after each
        # restart of the job
        known = subprocess.run(["python", "-c", "import beam_jobs"], capture_output=True, text=True)
        # A check that was killed says nothing, and its empty error would mean that a worker is coming.
        if known.returncode > 0:
            return api.StartWorkerResponse(error=known.stderr)
        answer = super().StartWorker(start_worker_request, unused_context)
        if start_worker_request.worker_id in self._worker_processes:
            watch = threading.Thread(target=self._watch, args=[start_worker_request], daemon=True)
            watch.start()
        return answer

    def _watch(self, request: api.StartWorkerRequest) -> None:
        process = self._worker_processes[request.worker_id]
        killed = process.wait() < 0
        time.sleep(PAUSE)
        # A worker that is stopped on request is removed from the table before
        if killed and self._worker_processes.get(request.worker_id) is process:
            self.StartWorker(request, None)


if __name__ == "__main__":
    worker_pool_main.BeamFnExternalWorkerPoolServicer = WatchedPool
    worker_pool_main.main(sys.argv)
