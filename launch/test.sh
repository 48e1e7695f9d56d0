#!/usr/bin/env bash
# Format, lint, types and tests, after setting up a virtual environment where there is none. Arguments go to pytest;
# without any, Pong is also trained for a minute by all its processes, as a user would.
#
# --cluster first: those too that need several hosts, a Slurm and sshd, which are made of this machine, by root.
#
#   launch/test.sh
#   launch/test.sh --cluster tests/cluster
#   launch/test.sh tests/replay -k tree
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

failed=()
step() {  # NAME COMMAND...
    say "$1"
    "${@:2}" || failed+=("$1 ($?)")
}

train_pong() {
    local folder
    folder="$(mktemp -d)/run"
    timeout --kill-after=30 300 "$venv/bin/distdqn" train budget.seconds=60 replay.min_size=2000 evaluation.final_episodes=2 \
        "run_dir=$folder" screen=lines track=disabled || return
    "$venv/bin/python" - "$folder" <<'PYTHON' || return
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
summary = json.loads((folder / "summary.json").read_text())
print({name: summary.get(name) for name in ("outcome", "env_frames", "learner_updates", "eval/return_mean")})
assert summary["outcome"] == "done" and summary["learner_updates"] > 0, "Pong was not trained"
assert any((folder / "checkpoints").iterdir()), "nothing was saved"
PYTHON
    rm -rf -- "${folder%/run}"
}

# Those of the runtime mostly wait for processes: beside all others they take half the time.
all_tests() {
    local log others=0 runtime=0
    log="$(mktemp)"
    set -m  # else it would ignore Ctrl-C, and all that it starts
    "$venv/bin/python" -m pytest -q tests/runtime >"$log" 2>&1 </dev/null &
    set +m
    trap "kill $! 2>/dev/null || true" EXIT
    "$venv/bin/python" -m pytest -q --ignore=tests/runtime || others=$?
    wait $! || runtime=$?
    trap - EXIT
    cat -- "$log"
    rm -f -- "$log"
    [ "$others" = 0 ] && [ "$runtime" = 0 ]
}

if [ "${1-}" = --cluster ]; then
    shift
    export DISTDQN_CLUSTER=1
    needed=(slurmctld slurmd slurm-client munge iproute2 openssh-server openssh-client rsync)
    if ! dpkg --status "${needed[@]}" >/dev/null 2>&1; then
        say "installing ${needed[*]}"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "${needed[@]}"
    fi
fi
set_up_venv dev
cd -- "$root"
step format "$venv/bin/ruff" format --check .
step lint "$venv/bin/ruff" check .
step types "$venv/bin/mypy"
if [ $# = 0 ]; then step "a minute of Pong" train_pong; fi
if [ $# = 0 ]; then step tests all_tests; else step tests "$venv/bin/python" -m pytest -q "$@"; fi
if [ ${#failed[@]} -gt 0 ]; then
    printf -v names ', %s' "${failed[@]}"
    say "failed: ${names:2}"
    exit 1
fi
