#!/usr/bin/env bash
# Feeds every fuzz target for some time, 60 seconds unless said: fuzz/run.sh [SECONDS]
# Installs cargo-fuzz if it is missing, prints executions and result of each target and fails if one found something.
# What it found is in fuzz/artifacts/TARGET; `cargo fuzz run -s none TARGET FILE` shows it again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly CARGO_FUZZ=0.13.2
readonly SECONDS_EACH=${1:-60}

command -v cargo-fuzz > /dev/null || cargo install --locked "cargo-fuzz@$CARGO_FUZZ"
if ! command -v c++ > /dev/null; then
    echo "fuzz/run.sh: a C++ compiler is missing: libFuzzer is built with it (Debian: g++)" >&2
    exit 1
fi

# Without a sanitizer, which only a nightly toolchain has: the gateway has no unsafe code for one to watch.
fuzz() {
    cargo fuzz "$1" --sanitizer none "${@:2}"
}

# What a target begins with.
seeds_of() {
    case $1 in
        *_decode) echo "../tests/fixtures/${1%_decode}" ;;
        order) echo ../src/submission/examples ;;
        *) echo "seeds/$1" ;;
    esac
}

fuzz build
printf '\n%-16s %12s  %s\n' target executions result
failed=0
for path in fuzz_targets/*.rs; do
    target=$(basename "$path" .rs)
    log=$(mktemp)
    mkdir -p "corpus/$target"
    result=clean
    fuzz run "$target" "corpus/$target" "$(seeds_of "$target")" -- -max_total_time="$SECONDS_EACH" -timeout=10 \
        -rss_limit_mb=1024 -print_final_stats=1 > "$log" 2>&1 || result=FAILED
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '%-16s %12s  %s\n' "$target" "${executions:-?}" "$result"
    if [[ $result == FAILED ]]; then
        failed=1
        tail -n 40 "$log" >&2
    fi
    rm -f "$log"
done
exit "$failed"
