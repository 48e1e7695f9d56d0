#!/usr/bin/env bash
# Trains on this machine, after setting up a virtual environment where there is none.
#
#   launch/local.sh                                       learns Pong
#   launch/local.sh experiment=cartpole seed=2            overrides go to `distdqn train`
#   launch/local.sh plot runs/*                           any other door of `distdqn`
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

set_up_venv
case "${1-}" in
    "" | *=* | "~"*) set -- train "$@" ;;
esac
exec "$venv/bin/distdqn" "$@"
