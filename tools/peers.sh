#!/bin/sh
# Install what some tests compare with or work on (nginx, a browser, SeaweedFS, Azurite) where that is
# possible; say so where not.
# Those tests skip with a reason when a peer is missing.
set -u
mkdir -p bench/.work
.venv/bin/python -c 'from pathlib import Path; from bench.seaweed import install; install(Path("bench/.work"))' \
    >/dev/null 2>&1 || echo "peers: cannot install SeaweedFS; its tests will be skipped"
azurite=bench/.work/azurite
if [ ! -x "$azurite/node_modules/.bin/azurite-blob" ]; then
    npm install --prefix "$azurite" --no-audit --no-fund --loglevel error azurite@3.35.0 >/dev/null 2>&1 \
        || echo "peers: cannot install Azurite (it needs npm); its tests will be skipped"
fi
missing=""
command -v nginx >/dev/null 2>&1 || missing="$missing nginx-light"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq >/dev/null 2>&1
    for package in $missing; do
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" \
            >/dev/null 2>&1 || echo "peers: cannot install $package; its tests will be skipped"
    done
else
    echo "peers: not root on Debian, so tests that need$missing will be skipped"
fi
exit 0
