#!/usr/bin/env bash
# A container that comes while dfw is in force: its port is closed from its first moment on.
. "$(dirname "$0")/lib.sh"

create() {
    host "$late" <<'END'
docker run --detach --name late --publish "$1:80" dfw-scenarios /bin/busybox httpd -f -h /bin -p 80
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
under_probe "$late" "a container is created" again
remove
