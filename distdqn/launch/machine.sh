#!/bin/bash
# Written by `distdqn launch`; `ray up` copies it to each machine.
#
#   machine.sh ray start OPTIONS...   Ray, after the one that it has started before; other people's Ray it leaves alone
#   machine.sh end                    ends that
#   machine.sh run                    the driver, on the head: starts the run, or goes on with it
#   machine.sh watch                  what it says
#   machine.sh stop                   tells it to save and to end, and waits until it has
set -uo pipefail
python={{python}}
here="{{here}}"
log={{run}}/launch/run.log
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.distdqn/{{name}}/token"
# a machine whose cable is cut is noticed in about 10 seconds instead of 65
export RAY_health_check_period_ms=2000 RAY_health_check_timeout_ms=2000 RAY_health_check_failure_threshold=3
export RAY_gcs_rpc_server_reconnect_timeout_s=10
{{autoscaler}}
ulimit -n "$(ulimit -Hn)"
(umask 077; mkdir -p "$here")

alive() {  # WHAT: whether it runs; after a restart of the machine its number may be somebody else's
    [ -s "$here/$1" ] && grep -qa -e distdqn -e ray.scripts "/proc/$(cat "$here/$1")/cmdline" 2>/dev/null
}
finish() {  # WHAT SECONDS: tells it to end, and waits
    alive "$1" || return 0
    kill "$(cat "$here/$1")"
    for ((i = 0; i < 5 * $2; i++)); do
        alive "$1" || return 0
        sleep 0.2
    done
    echo "$1 does not end within $2 s" >&2
    return 1
}
keep() {  # WHAT LOG COMMAND...: a process that outlives this shell and its terminal
    setsid nohup bash -c 'echo $$ >"$0"; exec "$@"' "$here/$1" "${@:3}" >>"$2" 2>&1 </dev/null &
}
case "${1-}" in
ray)
    if alive driver; then
        echo "a run is going on here: \`machine.sh stop\` first" >&2
        exit 1
    fi
    finish ray 60 || exit
    rm -f "$here/ray.log" "$here/ray"
    keep ray "$here/ray.log" "$python" -m ray.scripts.scripts "${@:2}" --disable-usage-stats --block
    for ((i = 0; i < 300; i++)); do
        if grep -q "Ray runtime started" "$here/ray.log" 2>/dev/null; then exit 0; fi
        if [ -s "$here/ray" ] && ! alive ray; then break; fi
        sleep 0.2
    done
    echo "Ray does not start on $(hostname):" >&2
    tail -n 20 "$here/ray.log" >&2
    exit 1
    ;;
end) finish driver 60; finish ray 60 ;;
run)
    if alive driver; then
        echo "it is running already" >&2
        exit 1
    fi
    mkdir -p {{folder}} && cd {{folder}} && mkdir -p "$(dirname "$log")" || exit
    keep driver "$log" {{command}}
    ;;
watch) cd {{folder}} && exec tail -n 50 -F "$log" ;;
stop) finish driver 120 ;;
*) sed -n '4,8s/^#  *//p' "$0"; exit 2 ;;
esac
