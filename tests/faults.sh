#!/usr/bin/env bash
# Every row of docs/faults.md with its tests and how they ended: tests/faults.sh [LOG]
# LOG is the output of `cargo test --no-fail-fast`; without one the tests are run. Ends with an error unless each test
# passed; those that are measurements of their own are named only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=${1:-}
if [[ -z $log ]]; then
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # What failed shows in its row.
    cargo test --locked --no-fail-fast 2>&1 | tee "$log" | grep -v '^test .* ok$' || true
fi

awk -F'|' '
    FNR == NR {
        if (match($0, /^test [^ ]+ \.\.\. (ok|FAILED|ignored)/)) {
            split($0, word, " ")
            result[word[2]] = word[4]
        }
        next
    }
    /^\| [VPOCL][0-9]+ / {
        row = $2
        gsub(/ /, "", row)
        tests = $(NF - 1)
        while (match(tests, /`[^`]+`/)) {
            name = substr(tests, RSTART + 1, RLENGTH - 2)
            tests = substr(tests, RSTART + RLENGTH)
            outcome = name in result ? result[name] : "not run"
            sub(/,$/, "", outcome)
            printf "%-4s %-8s %s\n", row, outcome, name
            number++
            if (outcome != "ok" && !(outcome == "ignored" && row ~ /^L/)) wrong++
        }
    }
    END {
        printf "%d tests of the rows, %d of them did not pass\n", number, wrong
        exit wrong > 0 || number == 0
    }
' "$log" docs/faults.md
