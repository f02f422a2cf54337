#!/usr/bin/env bash
# The engine writes all of its rules anew.
. "$(dirname "$0")/lib.sh"

under_probe "$closed" "docker restarts" restart_docker
reachable "$open" "what the policy opens, afterwards"
