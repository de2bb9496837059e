#!/bin/sh
# Creates the namespace if it is missing, and returns when it can be used. The environment variables TEMPORAL_* define
# the connection.
set -eu

server=$TEMPORAL_ADDRESS
looked_up=
deadline=$(($(date +%s) + 120))

# Retries a command until it succeeds. All commands together have two minutes. Prints a command's output only if it
# never succeeds. Looks up the server's address again between attempts.
retry() {
  until output=$("$@" 2>&1); do
    if [ "$(date +%s)" -ge "$deadline" ]; then
      echo "$output" >&2
      echo "Temporal at $TEMPORAL_ADDRESS did not become ready for the namespace: see the log of the service temporal." >&2
      exit 1
    fi
    sleep 2
    renew_address
  done
}

# Sets TEMPORAL_ADDRESS from an output line of getent.
set_address() {
  address=${1%%[[:space:]]*}
  case $address in *:*) address="[$address]" ;; esac
  TEMPORAL_ADDRESS=$address:${server##*:}
  looked_up=$(date +%s)
}

# The container may have been replaced and have a new address. A look-up can take 20 s, so at most one in 30 s is made,
# to leave most of the two minutes to the tools.
renew_address() {
  if [ -n "$looked_up" ] && [ $(($(date +%s) - looked_up)) -ge 30 ]; then
    looked_up=$(date +%s)
    if found=$(getent hosts "${server%:*}"); then set_address "$found"; fi
  fi
}

# The Temporal tools also query other DNS records of a name. On an internal network, Docker before version 25 forwards
# such queries to name servers that it cannot reach, which takes 20 s, longer than a tool waits. So this script looks up
# the name, and the tools get the address.
retry getent hosts "${server%:*}"
set_address "$output"

ensure_namespace() {
  temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
}

retry temporal operator cluster health
retry ensure_namespace
# The server's cache contains a new namespace only after some seconds. Until then the server refuses workers and
# clients.
retry temporal workflow list --namespace "$TEMPORAL_NAMESPACE" --limit 1
echo "The namespace $TEMPORAL_NAMESPACE is ready."
