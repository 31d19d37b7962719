#!/usr/bin/env bash
# How the gateway reads phone texts, against the newest `phonenumbers` of PyPI: hundreds of thousands of made-up texts,
# and an explanation for each difference. Fails if one has none. See README.md beside this file.
#
# Usage: benches/phone_texts.sh            (builds the reader unless READER names one)
# Environment: PHONENUMBERS (the newest release; a version such as 9.0.43)
set -euo pipefail

cd "$(dirname "$0")/.."
command -v python3 >/dev/null || { echo "missing; on Debian: apt-get install --no-install-recommends python3-venv" >&2; exit 1; }

dir=$(mktemp -d "${TMPDIR:-/tmp}/phone_texts.XXXXXX")
trap 'rm -rf "$dir"' EXIT

if [[ -z ${READER:-} ]]; then
    # Cargo names the file in its messages only.
    READER=$(cargo build --release --quiet --bench phone_texts --message-format json |
        sed -n 's/.*"name":"phone_texts".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
fi
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check "phonenumbers${PHONENUMBERS:+==$PHONENUMBERS}"
"$dir/venv/bin/python" benches/phone_texts.py "$READER"
