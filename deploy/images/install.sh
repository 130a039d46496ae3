#!/bin/sh
# For the build stages of the Dockerfile: installs what the project depends on into /opt/sessiontape,
# a venv, and the project itself into /opt/project, which is laid over it. Neither has pip; where
# the base image has none either, the one among the wheels is run as it is.
set -eu
target=/opt/sessiontape

pip() {
    wheel=$(find wheels -name 'pip-*.whl' | head -n 1)
    if python3 -m pip --version >/dev/null 2>&1; then
        python3 -m pip "$@"
    else
        python3 "$wheel/pip" "$@"
    fi
}

case $1 in
dependencies)
    python3 -m venv --without-pip "$target"
    pip --python "$target/bin/python" install --no-cache-dir --no-deps --require-hashes \
        --only-binary :all: --no-compile --quiet -r requirements.lock
    # A fifth of it is tests of the libraries and headers for compilers.
    find "$target" -depth -type d \( -name tests -o -name include \) -path '*/site-packages/*' \
        -exec rm -rf {} +
    python3 -m compileall -q -j 0 "$target/lib" || true  # some libraries hold templates of code
    ;;
project)
    pip --python "$target/bin/python" install --no-cache-dir --no-deps --quiet \
        --prefix /opt/project .
    ;;
*)
    echo "usage: install.sh dependencies|project" >&2
    exit 2
    ;;
esac
