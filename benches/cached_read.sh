#!/usr/bin/env bash
# How many cached reads of a completed batch the gateway serves in a second, against nginx's proxy_cache with the
# same bytes. Both check the caller's key, write a JSON log line for each request to a file, and have as many
# workers. See README.md beside this file.
#
# Usage: benches/cached_read.sh            (builds the release binary unless GATEWAY names one)
# Environment: ROUNDS (7), SECONDS_EACH (3), CONNECTIONS (64), WORKERS (number of cores)
set -euo pipefail

cd "$(dirname "$0")/.."
rounds=${ROUNDS:-7} seconds=${SECONDS_EACH:-3} connections=${CONNECTIONS:-64} workers=${WORKERS:-$(nproc)}

missing=()
command -v wrk >/dev/null || missing+=(wrk)
PATH=$PATH:/usr/sbin command -v nginx >/dev/null || missing+=(nginx-light)
command -v curl >/dev/null || missing+=(curl)
command -v python3 >/dev/null || missing+=(python3)
if ((${#missing[@]})); then
    echo "missing; on Debian: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
nginx=$(PATH=$PATH:/usr/sbin command -v nginx)

if [[ -z ${GATEWAY:-} ]]; then
    cargo build --release --quiet --bin phone-gateway
    GATEWAY=${CARGO_TARGET_DIR:-target}/release/phone-gateway
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/cached_read.XXXXXX")
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT TERM

# Below the range from which the system takes ports for outgoing connections.
free_ports() {
    python3 - "$1" <<'PY'
import random, socket, sys
found = []
while len(found) < int(sys.argv[1]):
    port = random.randrange(20000, 32000)
    with socket.socket() as one:
        if port not in found and one.connect_ex(("127.0.0.1", port)) != 0:
            found.append(port)
print(*found)
PY
}
read -r gateway_port nginx_port sandbox_port < <(free_ports 3)

wait_for() { # URL [curl arguments]
    for _ in $(seq 200); do
        curl --silent --fail --max-time 2 --output /dev/null "$@" && return
        sleep 0.05
    done
    echo "no answer from $1" >&2
    tail -n 5 "$dir"/*.log "$dir"/*.err >&2 || true
    exit 1
}

# The vendors: simulators in a process of their own.
"$GATEWAY" sandbox --listen "127.0.0.1:$sandbox_port" >"$dir/sandbox.log" 2>"$dir/sandbox.err" &
pids+=($!)
experian=http://127.0.0.1:$sandbox_port/experian/phone/bulk/v1/batches

# The gateway: keys, a JSON log line for each request, metrics.
new_key=$("$GATEWAY" key new --client bench)
key=$(grep -o 'pgw_[A-Za-z0-9_-]*' <<<"$new_key" | head -n 1)
hash=$(sed -n 's/.*key_sha256 = \["\([0-9a-f]*\)"\].*/\1/p' <<<"$new_key")
cat >"$dir/gateway.toml" <<TOML
[server]
listen = "127.0.0.1:$gateway_port"
workers = $workers
[auth]
mode = "keys"
[auth.clients.bench]
key_sha256 = ["$hash"]
[log]
format = "json"
[providers.enrow]
base_url = "http://127.0.0.1:$sandbox_port/enrow"
api_key = "sandbox"
[providers.experian]
base_url = "http://127.0.0.1:$sandbox_port/experian"
api_key = "sandbox"
TOML
"$GATEWAY" serve --config "$dir/gateway.toml" >>"$dir/gateway.log" 2>"$dir/gateway.err" &
pids+=($!)

# nginx: the same bytes from its cache. The upstream, asked once for each document, is the gateway itself.
mkdir "$dir/cache" "$dir/temp"
# Started by root, nginx's workers would run as somebody who may not enter the directory.
user=$([[ $(id -u) != 0 ]] || echo "user root;")
cat >"$dir/nginx.conf" <<NGINX
daemon off;
$user
worker_processes $workers;
pid $dir/nginx.pid;
error_log $dir/nginx.err;
events { worker_connections 4096; }
http {
    client_body_temp_path $dir/temp/body;
    proxy_temp_path $dir/temp/proxy;
    fastcgi_temp_path $dir/temp/fastcgi;
    uwsgi_temp_path $dir/temp/uwsgi;
    scgi_temp_path $dir/temp/scgi;
    proxy_cache_path $dir/cache levels=1:2 keys_zone=batches:8m max_size=256m inactive=1h;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    map_hash_bucket_size 128;
    map \$http_authorization \$client { default ""; "Bearer $key" "bench"; }
    log_format line escape=json '{"timestamp":"\$time_iso8601","level":"INFO","message":"request completed",'
        '"route":"\$uri","status":\$status,"duration":\$request_time,"client":"\$client",'
        '"cache":"\$upstream_cache_status","request_id":"\$request_id","trace":"\$http_traceparent",'
        '"method":"\$request_method"}';
    access_log $dir/nginx.log line;
    server {
        listen 127.0.0.1:$nginx_port;
        location /batches/ {
            if (\$client = "") { return 401; }
            proxy_pass http://127.0.0.1:$gateway_port;
            proxy_cache batches;
            proxy_cache_key \$uri;
            proxy_cache_valid 200 1h;
            proxy_ignore_headers Cache-Control;
            proxy_hide_header X-Request-Id;
            add_header X-Request-Id \$request_id;
        }
    }
}
NGINX
"$nginx" -p "$dir" -e "$dir/nginx.err" -c "$dir/nginx.conf" &
pids+=($!)

authorization="Authorization: Bearer $key"
wait_for "http://127.0.0.1:$gateway_port/readyz"
wait_for "http://127.0.0.1:$sandbox_port/experian/phone/bulk/v1/batches" -H 'Auth-Token: sandbox'

# A batch of that many phones, submitted to the vendor's own API; its id.
submit() {
    local body id
    body=$(python3 -c '
import json, sys
phones = [{"number": "+1416555%04d" % n} for n in range(int(sys.argv[1]))]
print(json.dumps({"defaults": {"output_format": "PLUS_E164", "get_ported_date": True}, "phones": phones}))' "$1")
    id=$(curl --silent --fail --max-time 10 -H 'Auth-Token: sandbox' -H 'Content-Type: application/json' \
        --data-binary @- "$experian" <<<"$body" | sed -n 's/.*"batch_id":"\([^"]*\)".*/\1/p')
    curl --silent --fail --max-time 10 --output /dev/null -X POST -H 'Auth-Token: sandbox' "$experian/$id/start"
    echo "$id"
}
small=$(submit 2)
large=$(submit 1000)

paths=(
    "2-phones /batches/experian/$small"
    "16-phones /batches/experian/sandbox-completed"
    "1000-phones /batches/experian/$large"
)

is_done() { curl --silent --max-time 5 -H "$authorization" "$1" | grep -q '"done":true'; }

requests_per_second() { # URL
    # wrk counts answers other than 2xx and 3xx; a single one would make the figure worthless.
    local report
    report=$(timeout $((seconds + 20)) wrk --threads 1 --connections "$connections" --duration "${seconds}s" \
        -H "$authorization" "$1")
    if grep -Eq 'Non-2xx|Socket errors' <<<"$report"; then
        echo "$report" >&2
        exit 1
    fi
    sed -n 's/^Requests\/sec: *//p' <<<"$report"
}

echo "Requests/s of a cached, completed batch: $workers workers each, $connections connections, medians of" \
    "$rounds rounds of $seconds s"
echo
printf '%-14s %9s %10s %10s %7s\n' batch bytes gateway nginx ratio
for entry in "${paths[@]}"; do
    read -r name path <<<"$entry"
    ours=http://127.0.0.1:$gateway_port$path theirs=http://127.0.0.1:$nginx_port$path
    # A simulated batch takes some seconds, and a batch that is not done is asked for again after two.
    for _ in $(seq 60); do
        is_done "$ours" && break
        sleep 0.5
    done
    for _ in 1 2 3; do
        curl --silent --fail --max-time 10 -H "$authorization" --output "$dir/ours" "$ours"
        curl --silent --fail --max-time 10 -H "$authorization" --output "$dir/theirs" --dump-header "$dir/head" "$theirs"
    done
    cmp "$dir/ours" "$dir/theirs"
    grep -qi '^etag:' "$dir/head"
    : >"$dir/figures"
    for _ in $(seq "$rounds"); do
        # Emptied each time: a growing log would slow whoever comes later.
        : >"$dir/gateway.log"
        : >"$dir/nginx.log"
        a=$(requests_per_second "$ours")
        b=$(requests_per_second "$theirs")
        echo "$a $b" >>"$dir/figures"
    done
    python3 - "$name" "$(wc -c <"$dir/ours")" "$dir/figures" <<'PY'
import statistics, sys
name, size, file = sys.argv[1:]
pairs = [tuple(map(float, line.split())) for line in open(file)]
ours, theirs = (statistics.median(side) for side in zip(*pairs))
ratios = sorted(a / b for a, b in pairs)
print(f"{name:<14} {size:>9} {ours:>10.0f} {theirs:>10.0f} {statistics.median(ratios):>6.2f}x"
      f"  [{ratios[0]:.2f}-{ratios[-1]:.2f}]  {'met' if statistics.median(ratios) >= 1 else 'NOT met'}")
PY
done
echo
echo "goal: at least 1.0 x at every size; in brackets the lowest and the highest ratio of a round"
