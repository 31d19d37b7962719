#!/usr/bin/env bash
# What an idle gateway holds in memory, and how long it takes from its start to the first 200 of /readyz. Both
# vendors are on; nothing calls them. See README.md beside this file.
#
# Usage: benches/footprint.sh              (builds the release binary unless GATEWAY names one)
# Environment: RUNS (15)
set -euo pipefail

cd "$(dirname "$0")/.."
if ! command -v python3 >/dev/null; then
    echo "missing; on Debian: apt-get install --no-install-recommends python3" >&2
    exit 1
fi
if [[ -z ${GATEWAY:-} ]]; then
    cargo build --release --quiet --bin phone-gateway
    GATEWAY=${CARGO_TARGET_DIR:-target}/release/phone-gateway
fi

# Starting a program for each look at the port would take longer than the gateway does.
exec python3 - "$GATEWAY" "${RUNS:-15}" <<'PY'
import os, socket, statistics, subprocess, sys, time

gateway, runs = sys.argv[1], int(sys.argv[2])
REQUEST = b"GET /readyz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def is_ready(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(REQUEST)
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def memory(pid):
    """Resident memory now and at its highest, and what of it is the process's own, in MB."""
    kilobytes = {}
    for file in ("status", "smaps_rollup"):
        for line in open(f"/proc/{pid}/{file}"):
            name, _, value = line.partition(":")
            if value.endswith(" kB\n"):
                kilobytes[name] = kilobytes.get(name, 0) or int(value.split()[0])
    own = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return kilobytes["VmRSS"] / 1024, kilobytes["VmHWM"] / 1024, own / 1024


def run(measure_memory):
    port = free_port()
    environment = os.environ | {
        "PHONE_GATEWAY__SERVER__LISTEN": f"127.0.0.1:{port}",
        "PHONE_GATEWAY__AUTH__CLIENTS__BENCH__KEY_SHA256": "0" * 64,
        "PHONE_GATEWAY__PROVIDERS__ENROW__API_KEY": "k",
        "PHONE_GATEWAY__PROVIDERS__EXPERIAN__API_KEY": "k",
    }
    began = time.perf_counter()
    process = subprocess.Popen([gateway, "serve"], env=environment, stdout=subprocess.DEVNULL)
    try:
        while not is_ready(port):
            if process.poll() is not None or time.perf_counter() - began > 10:
                sys.exit("the gateway did not become ready")
            time.sleep(0.0005)
        took = (time.perf_counter() - began) * 1000
        if measure_memory:
            time.sleep(2)
        return took, memory(process.pid)
    finally:
        process.terminate()
        process.wait(30)


took = sorted(run(False)[0] for _ in range(runs))
idle = [run(True)[1] for _ in range(3)]
resident, highest, own = (statistics.median(values) for values in zip(*idle))
to_ready = statistics.median(took)
verdict = lambda met: "met" if met else "NOT met"
print(f"idle memory    {resident:6.1f} MB resident ({own:.1f} MB private, {highest:.1f} MB at its highest)"
      f"   goal at most 25 MB: {verdict(resident <= 25)}")
print(f"time to ready  {to_ready:6.1f} ms, median of {runs} [{took[0]:.1f}-{took[-1]:.1f}]"
      f"   goal at most 100 ms: {verdict(to_ready <= 100)}")
PY
