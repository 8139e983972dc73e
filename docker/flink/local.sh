#!/usr/bin/env bash
# The cluster of compose.yaml without containers, from packages: local.sh run|start|status|stop; see local.sh --help.
# Needs `make setup`, Java 17 and Maven; as root, each worker is on a host (a network namespace) of its own.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
export PYTHONPATH=$root
exec .venv/bin/python -m examples.local_flink "$@"
