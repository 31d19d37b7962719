#!/usr/bin/env bash
# Turns one safety off at a time and shows which test notices: tests/switch-off.sh [--check] [NAME...]
#
# A safety is a patch in tests/switch-off/. What stands above its diff says what is turned off ("Off:") and which tests
# must fail then ("Tests:"). They are built and run in a copy of the project, about half a minute each, after all of them
# have passed in it with every safety on. --check only says whether every patch still fits.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check=
if [[ ${1:-} == --check ]]; then
    check=yes
    shift
fi
if [[ $# -gt 0 ]]; then
    patches=("${@/#/tests/switch-off/}")
    patches=("${patches[@]/%/.patch}")
else
    patches=(tests/switch-off/*.patch)
fi

copy=target/switch-off/copy
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --no-dereference --parents -t "$copy"

says() {
    sed -n "s/^$1: //p" "$2"
}

# Above its diff, a patch may say anything.
apply() {
    patch --directory "$copy" --strip 1 --silent --forward --fuzz 0 --no-backup-if-mismatch --reject-file - "$@"
}

cargo=(cargo test --quiet --locked --manifest-path "$copy/Cargo.toml" --target-dir target/switch-off/target)

# Runs tests by their full names: passes TEST...
passes() {
    "${cargo[@]}" --no-fail-fast --lib --test api -- --exact "$@" 2>&1
}

if [[ -z $check ]]; then
    read -ra all <<< "$(for patch in "${patches[@]}"; do says Tests "$patch"; done | tr '\n' ' ')"
    if ! log=$(passes "${all[@]}"); then
        printf '%s\n' "$log" >&2
        echo "with every safety on, these tests must pass" >&2
        exit 1
    fi
fi

left_on=0
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    if ! apply < "$patch"; then
        echo "$name: the patch does not fit any more" >&2
        exit 1
    fi
    if [[ -z $check ]]; then
        read -ra tests <<< "$(says Tests "$patch")"
        "${cargo[@]}" --lib --test api --no-run
        echo "$name: $(says Off "$patch")"
        # Each has to notice by itself.
        for test in "${tests[@]}"; do
            log=$(passes "$test") || true
            if grep -q "^test result: FAILED" <<< "$log"; then
                echo "  noticed by  $test"
            else
                echo "  NOT noticed by  $test"
                left_on=$((left_on + 1))
            fi
        done
    fi
    apply --reverse < "$patch"
done
if [[ -n $check ]]; then
    echo "${#patches[@]} patches fit"
fi
exit $((left_on > 0))
