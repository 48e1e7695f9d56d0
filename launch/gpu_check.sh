#!/usr/bin/env bash
# All that wants a GPU, within ten minutes: the CUDA tests, benchmarks, Pong, and Breakout with Ape-X's settings. Prints
# a table, and leaves figures, curves and logs in a folder. Each part goes on if another fails.
#
#   launch/gpu_check.sh                                            in gpu-check/
#   launch/gpu_check.sh --seconds 540 run_dir=DIR learner.device=cuda:0
#   launch/gpu_check.sh --seconds 300 learner.device=cpu           rehearses it where there is no GPU
#
# Sets up a virtual environment where there is none. DISTDQN_PYTHON=python3 takes one that has all.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

python="${DISTDQN_PYTHON:-}"
if [ -z "$python" ]; then
    set_up_venv dev
    python="$venv/bin/python"
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -P -m tests.laboratory gpu "$@"
