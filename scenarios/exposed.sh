#!/usr/bin/env bash
# Without dfw what Docker publishes is open to the world: the scenarios' own proof.
. "$(dirname "$0")/lib.sh"

step "dfw is off" dfw_off
reachable "$closed" "a published port"
reachable "$open" "another"
