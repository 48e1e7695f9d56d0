# Sourced by the other scripts. `set_up_venv` makes sure that $venv holds distdqn in its present form:
# once on a fresh machine, and again whenever pyproject.toml has changed. It leaves the working directory alone.
#
# PYTHON        the interpreter to make it with (3.11 or newer); default: the first that fits
# DISTDQN_VENV  where it is; default: .venv beside this folder
# PIP_*         as pip has them. On a machine without a GPU,
#               PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu spares you PyTorch's CUDA packages

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${DISTDQN_VENV:-$root/.venv}"

# Ray and others keep a file in the home folder; where that cannot be written they get a passing one.
if [ ! -w "${HOME:-/nowhere}" ]; then
    HOME="$(mktemp -d)"
    export HOME
fi

say() { printf 'distdqn: %s\n' "$*" >&2; }

# Runs each candidate instead of looking for it: a version manager's shim may exist and still refuse.
find_python() {
    local newest candidate
    for newest in 13 99; do  # not every dependency has wheels for the newest Python on its first day
        for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
            if "$candidate" - "$newest" >/dev/null 2>&1 <<'PYTHON'
import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, int(sys.argv[1])))
PYTHON
            then
                printf '%s\n' "$candidate"
                return
            fi
        done
    done
    say "needs Python 3.11 or newer with its venv module; none was found (set PYTHON to one)"
    return 1
}

# set_up_venv [EXTRA]: installs distdqn, or distdqn[EXTRA], in editable form.
set_up_venv() {
    local extra="${1:-}" wanted python
    wanted="$root $(cksum <"$root/pyproject.toml")"
    if "$venv/bin/python" -c '' 2>/dev/null && [ "$(cat "$venv/.installed$extra" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    mkdir -p -- "$venv"
    exec 9>"$venv.lock"
    if command -v flock >/dev/null; then flock 9; fi  # another launch may be at it
    if [ "$(cat "$venv/.installed$extra" 2>/dev/null)" != "$wanted" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
            python="$(find_python)"
            say "making $venv with $("$python" --version)"
            "$python" -m venv --clear "$venv"
        fi
        say "installing distdqn${extra:+[$extra]} and what it needs into $venv (minutes the first time)"
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable "$root${extra:+[$extra]}"
        printf '%s\n' "$wanted" | tee "$venv/.installed" >"$venv/.installed$extra"
    fi
    exec 9>&-  # or the run would hold the lock
}
