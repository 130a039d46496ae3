#!/usr/bin/env bash
# Makes the environment of the project: a venv, the locked dependencies, the project itself.
#   PYTHON=python3.12 bash scripts/env.sh .venv
set -euo pipefail
venv=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

say() { printf 'sessiontape: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 that runs here"
        echo "$PYTHON"
        return
    fi
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        if supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    die "Python 3.11, 3.12 or 3.13 is needed and none was found: install one, or name it with PYTHON=/path/to/python"
}

python=$(find_python)
if ! { [ -x "$venv/bin/python" ] && supported "$venv/bin/python" && "$venv/bin/python" -m pip --version >"$log" 2>&1; }; then
    "$python" -c 'import venv, ensurepip' 2>"$log" ||
        die "$python has no venv module: install it first (Debian, Ubuntu: apt install python3-venv)"
    say "making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv" >"$log" 2>&1 || { cat "$log" >&2; die "could not make $venv"; }
fi

# uv fetches in parallel; it is pinned by the same lock, pip checks its hash.
awk '/^[a-z0-9]/ {on = /^uv==/} on' requirements.lock >"$log"
say "installing uv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$log" ||
    die "could not install uv: look at the lines above; is the package index within reach?"

say "installing the locked dependencies (about 120 packages, a minute or two the first time)"
if ! VIRTUAL_ENV="$venv" "$venv/bin/uv" pip sync --compile-bytecode --require-hashes requirements.lock; then
    say "uv could not install them, trying pip, which reads pip's own configuration"
    "$venv/bin/python" -m pip install --disable-pip-version-check --require-hashes --no-deps -r requirements.lock ||
        die "could not install the dependencies: look at the lines above; is the package index within reach?"
fi
# No build isolation: hatchling is in the lock. No dependencies: they are all there.
VIRTUAL_ENV="$venv" "$venv/bin/uv" pip install --quiet --no-deps --no-build-isolation --editable . ||
    die "could not install the project into $venv: look at the lines above"
# Every worker is a process of its own: without bytecode each would compile it all at its start, and
# where PYTHONDONTWRITEBYTECODE is set nobody else ever writes it.
"$venv/bin/python" -m compileall -q streams schemas sinks || say "some of our code can't be compiled ahead"
say "$venv is ready"
