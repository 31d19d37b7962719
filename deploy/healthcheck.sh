#!/bin/bash
# Whether http://127.0.0.1:PORT/PATH answers 200: healthcheck.sh PORT PATH
# Speaks HTTP by itself, so that the image needs no other program than bash.
set -euo pipefail

port=$1 path=$2
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$path" >&3
read -r -t 2 _ status _ <&3
[[ $status == 200 ]]
