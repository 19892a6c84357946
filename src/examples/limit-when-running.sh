#!/bin/bash
# Waits for signals until a container runs, and limits its processor time and its tasks then.
# Usage: limit-when-running.sh CONTAINER PERCENT TASKS
set -euo pipefail
container=$1 quota=$(($2 * 10000)) tasks=$3
manager=(org.lockerd1 /org/lockerd1 org.lockerd1.Manager)
path=$(busctl call "${manager[@]}" GetContainer s "$container" | cut -d '"' -f 2)
get() { busctl get-property org.lockerd1 "$path" org.lockerd1.Container "$@"; }

# Its first line comes when it listens, so that no change is missed.
coproc gdbus monitor --system --dest org.lockerd1 --object-path "$path"
trap 'kill "$COPROC_PID"' EXIT
while read -r _ <&"${COPROC[0]}" && state=$(get State) && [ "$state" != 's "running"' ]; do
  echo "$container: $state"
done
busctl call --timeout=300 "${manager[@]}" SetLimits 'sa{sv}a{sv}' "$container" \
  2 cpu-quota t "$quota" tasks t "$tasks" 1 wait b true >/dev/null
get State CpuQuota TasksLimit
