#!/usr/bin/env bash
# Format, lint, types and tests, after setting up a virtual environment where there is none. Arguments go to pytest;
# without any, Pong is also trained for a minute by all its processes, as a user would.
#
# --cluster first: after the others, or with what is named, also those on several hosts, with a Slurm and sshd, which are
# made of this machine, by root. What they need is installed where that goes; those that lack something say so, and are
# skipped.
#
#   launch/test.sh
#   launch/test.sh --cluster
#   launch/test.sh --cluster tests/cluster/test_slurm.py
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
    "$venv/bin/python" -m pytest -q --ignore=tests/runtime "${without[@]}" || others=$?
    wait $! || runtime=$?
    trap - EXIT
    cat -- "$log"
    rm -f -- "$log"
    [ "$others" = 0 ] && [ "$runtime" = 0 ]
}

# What tests on several hosts take beside root. Those that lack something say so, and are skipped.
needs_of_hosts() {
    local packages=(slurmctld slurmd slurm-client munge iproute2 openssh-server openssh-client rsync) ray
    if [ "$(id -u)" != 0 ]; then return; fi
    if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
        say "installing ${packages[*]}"
        { timeout 300 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq \
            --no-install-recommends "${packages[@]}"; } >/dev/null </dev/null || say "they cannot be installed"
    fi
    ray="$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("ray"))')"
    if ! "$venv/bin/python" -c 'import aiohttp_cors, opencensus' 2>/dev/null; then
        say "installing ray[default], whose dashboard takes jobs"
        timeout 600 "$venv/bin/python" -m pip install -qq "ray[default]==$ray" || say "it cannot be installed"
    fi
    export DISTDQN_OTHER_PYTHON="$venv/other/bin/python"
    if ! (cd / && "$DISTDQN_OTHER_PYTHON" -c 'import numpy, psutil, ray') 2>/dev/null; then
        make_other_python "$ray" || say "there is no Python of another version, or it gets no Ray"
    fi
}

make_other_python() {  # VERSION of Ray
    local ours candidate
    ours="$("$venv/bin/python" -c 'import sys; print(sys.version_info[:2])')"
    for candidate in python3 python3.{13..11} /usr/bin/python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3; do
        "$candidate" - 2>/dev/null <<PYTHON || continue
import ensurepip, sys
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) or sys.version_info[:2] == $ours)
PYTHON
        say "installing Ray for $("$candidate" --version)"
        "$candidate" -m venv --clear "$venv/other" &&
            timeout 600 "$venv/other/bin/python" -m pip install -qq "ray==$1" numpy psutil
        return
    done
    return 1
}

# Real daemons keep times of their own, which a machine that is busy elsewhere overruns: who fails is tried once more,
# and both are shown.
cluster_tests() {
    local pytest=("$venv/bin/python" -m pytest -q -s --durations=0 tests/cluster)
    timeout --foreground --signal=INT --kill-after=120 3000 "${pytest[@]}" && return
    say "those that failed once more"
    timeout --foreground --signal=INT --kill-after=120 1200 "${pytest[@]}" --last-failed
}

cluster=no without=()
if [ "${1-}" = --cluster ]; then
    shift
    cluster=yes without=(--ignore=tests/cluster)
fi
set_up_venv dev
cd -- "$root"
step format "$venv/bin/ruff" format --check .
step lint "$venv/bin/ruff" check .
step types "$venv/bin/mypy"
if [ $# = 0 ]; then
    step "a minute of Pong" train_pong
    step tests all_tests
fi
if [ $cluster = yes ]; then
    needs_of_hosts
    export DISTDQN_CLUSTER=1
    if [ $# = 0 ]; then step "tests on several hosts" cluster_tests; fi
fi
if [ $# -gt 0 ]; then step tests "$venv/bin/python" -m pytest -q "$@"; fi
if [ ${#failed[@]} -gt 0 ]; then
    printf -v names ', %s' "${failed[@]}"
    say "failed: ${names:2}"
    exit 1
fi
