#!/usr/bin/env bash
# A container that comes while dfw is in force. Where its port is forwarded, it is closed from its first
# moment on; IPv6 clients meet docker-proxy, which guard finds as soon as it listens.
. "$(dirname "$0")/lib.sh"

create() {
    host "$late" <<'END'
docker run --detach --name late --stop-signal KILL --publish "$1:80" dfw-scenarios /bin/busybox httpd -f -h /bin -p 80
END
}
remove() {
    host <<'END'
docker rm --force late >/dev/null 2>&1
END
}

remove || true
create >/dev/null
again() { remove && create; }
never=("$DFW_ADDR4")
under_probe "$late" "a container is created" again
unreachable "$late" "a container's port that no policy names"
remove
