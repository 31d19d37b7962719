#!/usr/bin/env bash
# The services of docker-compose.yml as plain processes on free loopback ports: the simulators, and a gateway
# with deploy/gateway.toml, vendor keys in files and keys for clients.
#
# What differs from the containers is said by variables: the ports, and where the secrets and the store are. Then the
# two commands of the image that need no file: `serve --sandbox`, and `serve` with keys in variables.
# Another binary than the one that cargo builds: PHONE_GATEWAY_BIN=FILE tests/topology.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "topology: $*" >&2
    for log in "$work"/*.log; do
        [[ -s $log ]] && sed "s|^|  ${log##*/}: |" "$log" >&2
    done
    exit 1
}

# Ends what was started here, if it still runs.
clean_up() {
    for pid in "${started[@]}"; do
        kill -KILL "$pid" 2> /dev/null || true
    done
    rm -rf "$work"
}

# Waits for a line of a log and prints what the pattern's group holds: await LOG PATTERN
await() {
    local found
    for _ in {1..100}; do
        found=$(sed -nE "s#.*$2.*#\1#p" "$1" | head -n 1)
        [[ -n $found ]] && { echo "$found"; return; }
        sleep 0.1
    done
    return 1
}

# Sends SIGTERM and wants a clean end: stop NAME PID
stop() {
    kill -TERM "$2"
    local code=0
    wait "$2" || code=$?
    [[ $code -eq 0 ]] || fail "$1 ended with $code after SIGTERM"
}

# Asks the gateway: expect STATUS PATTERN PATH [CURL ARGUMENT...]
expect() {
    local status
    status=$(curl -sS --max-time 20 -o "$work/body" -w '%{http_code}' "${@:4}" "http://$gateway$3") ||
        fail "GET $3: no answer"
    [[ $status == "$1" ]] || fail "GET $3: $status instead of $1: $(< "$work/body")"
    grep -qE "$2" "$work/body" || fail "GET $3: no $2 in $(< "$work/body")"
    echo "ok: $status $3"
}

started=()
work=$(mktemp -d)
trap clean_up EXIT
touch "$work/sandbox.log" "$work/gateway.log"

binary=${PHONE_GATEWAY_BIN:-}
if [[ -z $binary ]]; then
    cargo build --locked --quiet
    binary=${CARGO_TARGET_DIR:-target}/debug/phone-gateway
fi

# The compose file and the settings must speak of the same simulators.
listen=$(sed -nE 's|.*"sandbox", "--listen", "([0-9.:]+)".*|\1|p' docker-compose.yml)
[[ -n $listen ]] || fail "docker-compose.yml does not say where the simulators listen"
vendors=$(sed -nE 's|^\[providers\.([a-z0-9_]+)\]$|\1|p' deploy/gateway.toml)
[[ -n $vendors ]] || fail "deploy/gateway.toml has no provider"
for vendor in $vendors; do
    grep -qxF "base_url = \"http://$listen/$vendor\"" deploy/gateway.toml ||
        fail "deploy/gateway.toml does not have $vendor at http://$listen/$vendor"
    grep -qxF "api_key_file = \"/run/secrets/$vendor\"" deploy/gateway.toml ||
        fail "deploy/gateway.toml does not have the key of $vendor in /run/secrets/$vendor"
    grep -qE "deploy/secrets/$vendor\.example" docker-compose.yml ||
        fail "docker-compose.yml has no secret for $vendor"
done
demo_key=$(grep -oE -m 1 'pgw_[A-Za-z0-9_-]{43}' docs/operations.md) || fail "docs/operations.md does not show the demo key"

"$binary" sandbox --listen 127.0.0.1:0 > "$work/sandbox.log" 2>&1 &
sandbox_pid=$!
started+=("$sandbox_pid")
for vendor in $vendors; do
    base_url=$(await "$work/sandbox.log" "__BASE_URL=(http://[^ ]+/$vendor)") ||
        fail "the simulators do not start"
    export "PHONE_GATEWAY__PROVIDERS__${vendor^^}__BASE_URL=$base_url"
    export "PHONE_GATEWAY__PROVIDERS__${vendor^^}__API_KEY_FILE=$PWD/deploy/secrets/$vendor.example"
done
sandbox=${base_url#http://}
sandbox=${sandbox%%/*}

folder=$(sed -nE 's|^url = "sqlite://(/.*)/[^/]+"$|\1|p' deploy/gateway.toml)
[[ -n $folder ]] || fail "deploy/gateway.toml does not say where the store is"
grep -qE "^ +- store:$folder\$" docker-compose.yml || fail "docker-compose.yml has no volume at $folder"
grep -qE "^RUN install -d .* $folder\$" Dockerfile || fail "the image has no folder $folder"
export PHONE_GATEWAY__STORE__URL=sqlite://$work/store.db
export PHONE_GATEWAY__SERVER__LISTEN=127.0.0.1:0
export PHONE_GATEWAY__SERVER__OPS_LISTEN=127.0.0.1:0
# No load balancer has to notice the end.
export PHONE_GATEWAY__SERVER__SHUTDOWN_DELAY=0s
"$binary" check-config --config deploy/gateway.toml > "$work/check-config.log" 2>&1 ||
    fail "the settings are refused"
"$binary" serve --config deploy/gateway.toml > "$work/gateway.log" 2>&1 &
gateway_pid=$!
started+=("$gateway_pid")
gateway=$(await "$work/gateway.log" '"message":"ready","address":"([0-9.:]+)"') || fail "the gateway does not start"

deploy/healthcheck.sh "${sandbox##*:}" "/admin/${vendors%%$'\n'*}/ready-made" || fail "the simulators are not healthy"
ops=$(await "$work/gateway.log" '"ops_address":"([0-9.:]+)"') || fail "there is no listener for the platform"
for address in "$gateway" "$ops"; do
    deploy/healthcheck.sh "${address##*:}" /readyz || fail "the gateway is not healthy"
done
if deploy/healthcheck.sh "${gateway##*:}" /no-such-path; then fail "the health check is content with a 404"; fi
echo "ok: health checks"

for vendor in $vendors; do
    path=/batches/$vendor/sandbox-completed
    expect 200 '"status":"completed",.*"results":\[\{' "$path" -H "Authorization: Bearer $demo_key"
    expect 401 '"code":"unauthenticated"' "$path"
done

# What was submitted is there after a restart.
submitted=$(curl -sS --max-time 20 -X POST "http://$gateway/batches/enrow" -H "Authorization: Bearer $demo_key" \
    -H 'Idempotency-Key: topology-1' -H 'Content-Type: application/json' \
    -d '{"records":[{"linkedin_url":"https://www.linkedin.com/in/michael-scott"}]}' |
    sed -nE 's|.*"id":"([^"]+)".*|\1|p')
[[ -n $submitted ]] || fail "nothing was submitted"
stop gateway "$gateway_pid"
"$binary" serve --config deploy/gateway.toml > "$work/gateway-again.log" 2>&1 &
gateway_pid=$!
started+=("$gateway_pid")
gateway=$(await "$work/gateway-again.log" '"message":"ready","address":"([0-9.:]+)"') || fail "no restart"
expect 200 "\"id\":\"$submitted\"" /batches -H "Authorization: Bearer $demo_key"

stop gateway "$gateway_pid"
stop sandbox "$sandbox_pid"
echo "ok: both ended on SIGTERM"

# The image alone, with its folder and its variables, on a free loopback port.
version=$(sed -nE 's|^version = "(.*)"$|\1|p' Cargo.toml | head -n 1)
grep -qxF "ARG PHONE_GATEWAY_VERSION=$version" Dockerfile || fail "the image does not have the version $version"
for line in "WORKDIR $folder" "VOLUME $folder"; do
    grep -qxF "$line" Dockerfile || fail "the image does not have: $line"
done
image=$(sed -nE 's/^(ENV| +) *(PHONE_GATEWAY_[A-Z_]+=[^ ]+).*/\2/p' Dockerfile)
port=$(sed -nE 's/^EXPOSE ([0-9]+)$/\1/p' Dockerfile)
grep -qxF "PHONE_GATEWAY__SERVER__LISTEN=0.0.0.0:$port" <<< "$image" || fail "the image does not listen on its port"
grep -qxF "PHONE_GATEWAY_SANDBOX_OPEN=true" <<< "$image" || fail "the image's sandbox refuses its port"

# Runs a command of the image: in_image LOG [VARIABLE=VALUE...] -- ARGUMENT...
in_image() {
    local log=$1 variables=()
    shift
    while [[ $1 != -- ]]; do variables+=("$1") && shift; done
    shift
    mapfile -t -O "${#variables[@]}" variables < <(grep -v __SERVER__LISTEN= <<< "$image")
    (cd "$work/image" && exec env -i "${variables[@]}" PHONE_GATEWAY__SERVER__LISTEN=127.0.0.1:0 \
        "$binary" "$@" > "$log" 2>&1) &
    gateway_pid=$!
    started+=("$gateway_pid")
    gateway=$(await "$log" '"message":"ready","address":"([0-9.:]+)"') || fail "the image's ${*} does not start"
}

binary=$(realpath "$binary")
mkdir "$work/image"
in_image "$work/image-sandbox.log" -- serve --sandbox
for vendor in $vendors; do
    expect 200 '"status":"completed",.*"results":\[\{' "/batches/$vendor/sandbox-completed"
done
deploy/healthcheck.sh "${gateway##*:}" /readyz || fail "the image's sandbox is not healthy"
stop "the image's sandbox" "$gateway_pid"
[[ -z $(ls -A "$work/image") ]] || fail "the sandbox left a store behind"

key_hash=$(sed -nE 's|^key_sha256 = \["([0-9a-f]+)"\]$|\1|p' deploy/gateway.toml)
in_image "$work/image-serve.log" "PHONE_GATEWAY__AUTH__CLIENTS__DEMO__KEY_SHA256=$key_hash" \
    "PHONE_GATEWAY__PROVIDERS__${vendor^^}__API_KEY_FILE=$PWD/deploy/secrets/$vendor.example" -- serve
expect 200 '"batches":\[\]' /batches -H "Authorization: Bearer $demo_key"
expect 401 '"code":"unauthenticated"' /batches
stop "the image's gateway" "$gateway_pid"
[[ -f $work/image/phone-gateway.db ]] || fail "the store is not in the volume"
echo "ok: the image's commands"
