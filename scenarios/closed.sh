#!/usr/bin/env bash
# A published port that no policy names is closed to the stranger, and not to the host.
. "$(dirname "$0")/lib.sh"

host_itself() {
    host "$closed" <<'END'
timeout 10 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET / HTTP/1.0\r\n\r\n" >&3 && read -r line <&3' "$1"
END
}

step "dfw is on" dfw_on
unreachable "$closed" "a port that no policy names"
step "the host itself does" eventually host_itself
