#!/usr/bin/env bash
# The engine writes all of its rules anew.
. "$(dirname "$0")/lib.sh"

restart() {
    host <<'END'
# systemd starts nothing more than three times in a minute.
systemctl reset-failed docker
systemctl restart docker
END
}

under_probe "$closed" "docker restarts" restart
reachable "$open" "what the policy opens, afterwards"
