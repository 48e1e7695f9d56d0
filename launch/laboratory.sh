#!/usr/bin/env bash
# Measures what users of the package need not: agents beside each other, a peer beside distdqn, memory over time.
# Sets up a virtual environment where there is none. tests/laboratory/__main__.py says what each experiment does.
#
#   launch/laboratory.sh agents [--seconds S] [NAME ...] [KEY=VALUE ...]
#   launch/laboratory.sh peer [--seconds S] [KEY=VALUE ...]
#   launch/laboratory.sh memory [--minutes M] [KEY=VALUE ...]
#   launch/laboratory.sh faults [--cells N] [WHOM ...] [seed=S]
#   launch/laboratory.sh soak [--minutes M] [seed=S]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

if [ "${1-}" = peer ]; then set_up_venv bench; else set_up_venv; fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$venv/bin/python" -P -m tests.laboratory "$@"
