#!/usr/bin/env bash
# A policy that changes is taken up without a word, in both directions.
. "$(dirname "$0")/lib.sh"

# To any, or to nobody.
open_to() {
    host "$open" "$1" <<'END'
if [ "$2" = nobody ]; then who="[]"; else who=any; fi
sed --in-place "s/^  $1:.*/  $1: $who/" /etc/dfw/policies/scenarios.yaml
END
}

step "dfw is on" dfw_on
reachable "$open" "a port that the policy opens"
step "the policy opens it no more" open_to nobody
step "the stranger is out" eventually answers_nowhere "$open"
step "the policy opens it again" open_to any
reachable "$open" "it again"
