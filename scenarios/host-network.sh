#!/usr/bin/env bash
# A container in the host's own network: Docker rewrites nothing, the packet ends at the host.
. "$(dirname "$0")/lib.sh"

step "dfw is off" dfw_off
reachable "$bare" "the container in the host's network"
step "dfw is on" dfw_on
unreachable "$bare" "it at a port that the policy closes"
