#!/usr/bin/env bash
# Debian's nftables.service flushes every table, Docker's with them.
. "$(dirname "$0")/lib.sh"

unit_exists() {
    host <<'END'
systemctl cat nftables.service >/dev/null 2>&1
END
}
restart() {
    host <<'END'
systemctl restart nftables
END
}
stop() {
    host <<'END'
systemctl stop nftables
END
}

unit_exists || skip "the host has no nftables.service"
under_flush "nftables.service restarts" restart
stop
restart_docker
reachable "$open" "what the policy opens, afterwards"
