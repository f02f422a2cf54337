#!/usr/bin/env bash
# Somebody flushes every table by hand.
. "$(dirname "$0")/lib.sh"

flush() {
    host <<'END'
nft flush ruleset
END
}
restore() {
    host <<'END'
systemctl reset-failed docker
systemctl restart docker
END
}

host_has nft || skip "the host has no nft"
under_flush "the ruleset is flushed" flush
restore
reachable "$open" "what the policy opens, afterwards"
