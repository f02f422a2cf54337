#!/usr/bin/env bash
# firewalld comes, reloads and goes beside dfw.
. "$(dirname "$0")/lib.sh"

come_and_reload() {
    host <<'END'
systemctl start firewalld
firewall-cmd --reload
END
}
go() {
    host <<'END' && restart_docker
systemctl stop firewalld
END
}

host_has firewall-cmd || skip "the host has no firewalld"
under_probe "$closed" "firewalld starts and reloads" come_and_reload
step "firewalld stops" go
unreachable "$closed" "a port that no policy names"
reachable "$open" "what the policy opens, afterwards"
