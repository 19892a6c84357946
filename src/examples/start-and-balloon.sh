#!/bin/bash
# Starts a container over D-Bus, waits until it runs, and sets its memory limit.
# Usage: start-and-balloon.sh CONTAINER BYTES
set -eu
container=$1 bytes=$2

call() { # OBJECT INTERFACE METHOD [SIGNATURE ARGUMENT...]
  busctl --allow-interactive-authorization=yes --timeout=300 --json=short call org.lockerd1 "$@"
}

if ! call /org/lockerd1 org.lockerd1.Manager StartContainer 'sa{sv}' "$container" \
  1 wait b true >/dev/null; then
  echo "not started: not allowed, or it runs already" >&2
fi
call /org/lockerd1 org.lockerd1.Manager Balloon 'sta{sv}' "$container" "$bytes" \
  1 wait b true >/dev/null
path=$(call /org/lockerd1 org.lockerd1.Manager GetContainer s "$container" |
  sed 's/.*\["\(.*\)"\].*/\1/')
for property in State MemoryLimit MemoryCurrent; do
  printf '%s: %s\n' "$property" \
    "$(busctl get-property org.lockerd1 "$path" org.lockerd1.Container "$property")"
done
