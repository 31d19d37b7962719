#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own: tests/postgres.sh COMMAND...
# The command finds the server's URL in PHONE_GATEWAY_TEST_POSTGRES. The server stands in a temporary folder, listens
# on a Unix socket only and is gone when the command ends, however it ends. Installs Debian's package if needed.
set -euo pipefail

if (($# == 0)); then
    echo "usage: tests/postgres.sh COMMAND..." >&2
    exit 2
fi

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# The folder of the newest server that is installed.
server_folder() {
    local folder
    folder=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    if [[ -x $folder/initdb ]]; then
        echo "$folder"
    elif command -v initdb > /dev/null; then
        dirname "$(command -v initdb)"
    else
        return 1
    fi
}

# Without the server that the package would start by itself.
install_server() {
    if ! command -v apt-get > /dev/null; then
        echo "tests/postgres.sh: PostgreSQL is missing, and there is no apt-get to install it with" >&2
        exit 1
    fi
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-common
    echo "create_main_cluster = false" | as_root tee /etc/postgresql-common/createcluster.conf > /dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
}

# Without the service that the package would start by itself.
install_pooler() {
    command -v apt-get > /dev/null || return 0
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer
    if [[ -d /run/systemd/system ]]; then as_root systemctl disable --now pgbouncer; fi
}

# The server refuses to run as root.
as_server() {
    if [[ $EUID -ne 0 ]]; then
        "$@"
    elif id -u postgres > /dev/null 2>&1; then
        (cd / && runuser -u postgres -- "$@")
    else
        (cd / && runuser -u nobody -- "$@")
    fi
}

server_folder > /dev/null || install_server >&2
[[ -n $(PATH=$PATH:/usr/sbin command -v pgbouncer) ]] || install_pooler >&2
server=$(server_folder)
folder=$(mktemp -d /tmp/postgres.XXXXXX)

clean_up() {
    as_server "$server/pg_ctl" -D "$folder/data" -m immediate stop > /dev/null 2>&1 || true
    rm -rf "$folder"
}
trap clean_up EXIT
# The exit that a signal causes runs the line above.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ $EUID -eq 0 ]]; then
    chown "$(as_server id -u)" "$folder"
fi
as_server "$server/initdb" -D "$folder/data" -U gateway -A trust -E UTF8 --no-locale > "$folder.log" 2>&1 ||
    { cat "$folder.log" >&2; rm -f "$folder.log"; exit 1; }
rm -f "$folder.log"
as_server "$server/pg_ctl" -D "$folder/data" -l "$folder/log" -w -t 60 \
    -o "-c listen_addresses='' -c unix_socket_directories='$folder' -c fsync=on -c max_connections=200" start > /dev/null ||
    { cat "$folder/log" >&2; exit 1; }

export PHONE_GATEWAY_TEST_POSTGRES="postgres://gateway@localhost/postgres?host=$folder"
# Beside this shell, because a shell that waits for a command in front takes no signal.
"$@" &
command=$!
trap 'kill -TERM "$command" 2> /dev/null; exit 129' HUP
trap 'kill -TERM "$command" 2> /dev/null; exit 130' INT
trap 'kill -TERM "$command" 2> /dev/null; exit 143' TERM
wait "$command"
