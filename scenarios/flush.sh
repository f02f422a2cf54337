#!/usr/bin/env bash
# Somebody flushes every table by hand.
. "$(dirname "$0")/lib.sh"

flush() {
    host <<'END'
nft flush ruleset
END
}

host_has nft || skip "the host has no nft"
under_flush "the ruleset is flushed" flush
restart_docker
reachable "$open" "what the policy opens, afterwards"
