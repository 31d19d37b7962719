#!/usr/bin/env bash
# The load rows of docs/faults.md, each printed as a ratio to its goal. See README.md beside this file.
#
# Usage: benches/load.sh [all]     (with "all" also L4: 1,500 kills and 10,000 histories, about half an hour)
set -euo pipefail
cd "$(dirname "$0")/.."

measure() {
    cargo test --release --quiet --locked "$@"
}

measure --test api -- --ignored --nocapture --test-threads=1 load::
if [[ ${1:-} == all ]]; then
    PHONE_GATEWAY_TEST_KILLS=1500 measure --test api -- --ignored --nocapture random_kills::
    PROPTEST_CASES=10000 measure --lib -- histories::sqlite
fi
