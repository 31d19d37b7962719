#!/usr/bin/env bash
# Every check of the project, on a Debian machine with Rust: tests/run.sh
# Installs what is missing, prints each step and ends at the first that fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CARGO_DENY=0.20.2

step() {
    printf '\n=== %s\n' "$*"
    "$@"
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# Installs a Debian package unless there is its command: need COMMAND PACKAGE...
need() {
    command -v "$1" > /dev/null && return
    if ! command -v apt-get > /dev/null; then
        echo "tests/run.sh: $1 is missing, and there is no apt-get to install it with" >&2
        exit 1
    fi
    step as_root apt-get update -qq
    step as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${@:2}"
}

if ! command -v cargo > /dev/null && [[ -r $HOME/.cargo/env ]]; then
    # shellcheck source=/dev/null
    . "$HOME/.cargo/env"
fi
if ! command -v cargo > /dev/null; then
    echo "tests/run.sh: cargo is missing; install Rust 1.95 or later" >&2
    exit 1
fi
need cc gcc libc6-dev
need curl curl ca-certificates
need jq jq
need python3 python3
need patch patch
PATH=$PATH:/usr/sbin
# Tests put them in front of the gateway, with files of their own; no service is started.
need haproxy haproxy
need nginx nginx-light
cargo fmt --version > /dev/null 2>&1 || step rustup component add rustfmt
cargo clippy --version > /dev/null 2>&1 || step rustup component add clippy
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
command -v cargo-deny > /dev/null || step cargo install --locked "cargo-deny@$CARGO_DENY"

step cargo fmt --check
step cargo fmt --check --manifest-path fuzz/Cargo.toml
step cargo clippy --all-targets --locked -- -D warnings
# Every row of docs/faults.md with what became of its tests.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
tested=0
step cargo test --locked --no-fail-fast 2>&1 | tee "$log" || tested=$?
step tests/faults.sh "$log"
((tested == 0)) || exit "$tested"
step tests/switch-off.sh --check
# The same on PostgreSQL, with a server of its own.
step tests/postgres.sh cargo test --locked
step env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
step cargo deny --locked check bans licenses sources
if cargo deny --locked fetch db > /dev/null 2>&1; then
    step cargo deny --locked check advisories
else
    printf '\n=== the advisory database cannot be reached: advisories are NOT checked\n'
fi
step tests/topology.sh

printf '\nEverything passed.\n'
