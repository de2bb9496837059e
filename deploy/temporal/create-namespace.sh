#!/bin/sh
# Makes the namespace when it is missing, and returns when it can be used. The connection comes from TEMPORAL_* in the
# environment.
set -eu

# Runs a command until it succeeds, two minutes at most; shows what it says only when it never does.
retry() {
  attempt=0
  until output=$("$@" 2>&1); do
    attempt=$((attempt + 1))
    if [ "$attempt" -ge 60 ]; then
      echo "$output" >&2
      echo "Temporal at $TEMPORAL_ADDRESS does not get ready for the namespace: see the log of the service temporal." >&2
      exit 1
    fi
    sleep 2
  done
}

ensure_namespace() {
  temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
}

retry temporal operator cluster health
retry ensure_namespace
# The server's own cache learns of a new namespace some seconds later; until then workers and clients are refused.
retry temporal workflow list --namespace "$TEMPORAL_NAMESPACE" --limit 1
echo "The namespace $TEMPORAL_NAMESPACE is ready."
