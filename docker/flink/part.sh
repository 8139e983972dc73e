#!/usr/bin/env bash
# part.sh PART: becomes one part of the cluster: jobmanager, taskmanager, job-server or pool.
#
# compose.yaml starts all parts by it. Its settings:
#   FLINK_HOME     the folder that fetch.sh filled
#   FLINK_MANAGER  the host of the JobManager, as the other parts and the client call it
#   FLINK_SELF     the host of this part, as others call it
#   further arguments are Flink's, as -Dtaskmanager.numberOfTaskSlots=2
set -euo pipefail
part=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
manager=${FLINK_MANAGER:-jobmanager}

if [ "$part" = pool ]; then
  # Starts a Python process for each job that asks for one, which it finds as `python` on PATH. One pool for each
  # TaskManager, and on its host: two that share one use the same worker ids and stop each other's workers.
  exec python "$here/worker_pool.py" --service_port=50000
fi

jars="$FLINK_HOME/lib/*"
java=(java "-Dlog4j2.configurationFile=file:$here/log4j.properties")
# What Java 17 keeps from Flink and Kryo, as in Flink's own configuration.
for package in lang lang.invoke net io nio text time util util.concurrent util.concurrent.atomic util.concurrent.locks; do
  java+=("--add-opens=java.base/java.$package=ALL-UNNAMED")
done
java+=(--add-opens=java.base/sun.nio.ch=ALL-UNNAMED)

if [ "$part" = job-server ]; then
  exec "${java[@]}" -Xmx512m -cp "$jars" org.apache.beam.runners.flink.FlinkJobServerDriver \
    --flink-master "$manager:8081" --job-host "${FLINK_SELF:-job-server}" --job-port 8099 --artifact-port 8098 \
    --expansion-port -1 "$@"
fi

flink=(--configDir "$here" "-Djobmanager.rpc.address=$manager" "$@")
case "$part" in
  jobmanager) question=GET_JM_RESOURCE_PARAMS class=StandaloneSessionClusterEntrypoint package=entrypoint ;;
  taskmanager)
    question=GET_TM_RESOURCE_PARAMS class=TaskManagerRunner package=taskexecutor
    flink+=("-Dtaskmanager.host=${FLINK_SELF:?the name or address of this TaskManager}")
    ;;
  *)
    echo "part.sh knows jobmanager, taskmanager, job-server and pool; found '$part'." >&2
    exit 2
    ;;
esac
# Flink works out the JVM's memory from flink-conf.yaml: a line of JVM options, and a line of settings that agree with it.
memory=$("${java[@]}" -cp "$FLINK_HOME/bin/*:$jars" org.apache.flink.runtime.util.bash.BashJavaUtils "$question" "${flink[@]}" \
  | sed -n 's/^BASH_JAVA_UTILS_EXEC_RESULT://p')
mapfile -t memory <<< "$memory"
# shellcheck disable=SC2086 # both are lists of words
exec "${java[@]}" ${memory[0]} -cp "$jars" "org.apache.flink.runtime.$package.$class" "${flink[@]}" ${memory[1]}
