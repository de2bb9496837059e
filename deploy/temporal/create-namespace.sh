#!/bin/sh
# Makes the namespace when it is missing, and returns when it can be used. The connection comes from TEMPORAL_* in the
# environment.
set -eu

server=$TEMPORAL_ADDRESS
looked_up=
deadline=$(($(date +%s) + 120))

# Runs a command until it succeeds, or until the two minutes are over that all commands have together; shows what it
# says only when it never does. While it fails, the address is renewed.
retry() {
  until output=$("$@" 2>&1); do
    if [ "$(date +%s)" -ge "$deadline" ]; then
      echo "$output" >&2
      echo "Temporal at $TEMPORAL_ADDRESS does not get ready for the namespace: see the log of the service temporal." >&2
      exit 1
    fi
    sleep 2
    renew_address
  done
}

# Takes the address from a line of getent's.
set_address() {
  address=${1%%[[:space:]]*}
  case $address in *:*) address="[$address]" ;; esac
  TEMPORAL_ADDRESS=$address:${server##*:}
  looked_up=$(date +%s)
}

# The container may have been replaced, and have another address. Where a look-up takes 20 s, one in 30 s leaves most of
# the two minutes to the tools.
renew_address() {
  if [ -n "$looked_up" ] && [ $(($(date +%s) - looked_up)) -ge 30 ]; then
    looked_up=$(date +%s)
    if found=$(getent hosts "${server%:*}"); then set_address "$found"; fi
  fi
}

# The tools look for more records of a name than its address, and Docker before version 25 passes those questions from
# an internal network to name servers that it cannot reach: 20 s, which is more than a tool waits. So the name is
# looked up here, and the tools get the address.
retry getent hosts "${server%:*}"
set_address "$output"

ensure_namespace() {
  temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
}

retry temporal operator cluster health
retry ensure_namespace
# The server's own cache learns of a new namespace some seconds later; until then workers and clients are refused.
retry temporal workflow list --namespace "$TEMPORAL_NAMESPACE" --limit 1
echo "The namespace $TEMPORAL_NAMESPACE is ready."
