#!/usr/bin/env bash
# Runs Envoy. At SIGTERM it takes no more connections and ends when the open calls have ended, or after DRAIN_SECONDS:
# Envoy alone would cut them all at once. `start.sh ready` is the health check.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit

# Asks Envoy's administration, which answers inside alone: METHOD and path.
admin() {
  exec 3<>"/dev/tcp/127.0.0.1/${ADMIN_PORT:-9901}" || return 1
  printf '%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' "$1" "$2" >&3
  timeout 2 cat <&3
  exec 3>&-
}

# How many requests and WebSockets are open at the edge.
open_calls() {
  local name count total=0
  while read -r name count; do
    [[ $name == http.edge.* ]] && ((total += ${count//[^0-9]/}))
  done < <(admin GET '/stats?filter=^http\.edge\.downstream_(rq|cx_upgrades)_active$')
  echo "$total"
}

drain() {
  admin POST '/drain_listeners?graceful' >/dev/null
  for ((left = ${DRAIN_SECONDS:-25}; left > 0; left--)); do
    [[ $(open_calls) == 0 ]] && break
    sleep 1
  done
  kill -TERM "$envoy" 2>/dev/null
}

if [[ ${1:-} == ready ]]; then
  [[ $(admin GET /ready) == *LIVE* ]]
  exit
fi

# A certificate that is mounted opens the second door.
https=()
[[ -r ${TLS_FOLDER:-/etc/envoy-tls}/tls.crt ]] && https=(--config-yaml "$(<https.yaml)")

# Once it drains, it closes its doors at once: whoever comes is to find another replica, or the new one.
envoy --config-path envoy.yaml --log-level warning --drain-time-s 1 --drain-strategy immediate "${https[@]}" &
envoy=$!
trap drain TERM INT
# The first wait ends when the signal comes, the second when Envoy has ended.
wait "$envoy"
wait "$envoy" 2>/dev/null
