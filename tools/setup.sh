#!/bin/sh
# Make .venv with the locked dependencies and holdfast itself; with uv when it is there, else with pip.
set -eu
if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --allow-existing --python "${PYTHON:-python3}" .venv
    uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock
    uv pip install --quiet --python .venv/bin/python --no-deps -e .
else
    "${PYTHON:-python3}" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
fi
touch .venv/ready
