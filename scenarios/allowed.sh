#!/usr/bin/env bash
# What the policy opens is open.
. "$(dirname "$0")/lib.sh"

step "dfw is on" dfw_on
reachable "$open" "a port that the policy opens"
