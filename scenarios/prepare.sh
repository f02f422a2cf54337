#!/usr/bin/env bash
# The policy and the containers that the other scenarios talk about. It replaces the host's policies.
. "$(dirname "$0")/lib.sh"

policy() {
    host "$open" "$bare" <<'END'
systemctl stop dfw 2>/dev/null || true
mkdir -p /etc/dfw/policies
rm -f /etc/dfw/policies/*.yaml
cat >/etc/dfw/policies/scenarios.yaml <<POLICY
default: deny
ports:
  $1: any
  $2: []
POLICY
dfw check /etc/dfw/policies
END
}

# Busybox alone is a web server: where the host has a static one, no registry is asked.
image() {
    host <<'END'
docker image inspect dfw-scenarios >/dev/null 2>&1 && return
if busybox=$(command -v busybox) && ! ldd "$busybox" >/dev/null 2>&1; then
    root=$(mktemp -d)
    mkdir "$root/bin"
    cp "$busybox" "$root/bin/busybox"
    tar -C "$root" -c . | docker import - dfw-scenarios
    rm -r "$root"
else
    docker pull --quiet docker.io/library/busybox
    docker tag busybox dfw-scenarios
fi
END
}

containers() {
    host "$closed" "$open" "$bare" <<'END'
docker rm --force web bare late >/dev/null 2>&1 || true
# Killed at once: the first process of a container ignores what asks it to end, and Docker that restarts while
# it waits for two of them on a slow machine may take them for running, and never start them again.
serve="dfw-scenarios /bin/busybox httpd -f -h /bin -p"
docker run --detach --name web --stop-signal KILL --restart always --publish "$1:80" --publish "$2:80" $serve 80
docker run --detach --name bare --stop-signal KILL --restart always --network host $serve "$3"
END
}

# firewalld closes ports of the host itself, so that nothing would be found open there.
engine() {
    host <<'END'
systemctl stop firewalld 2>/dev/null || true
systemctl start docker
docker version
END
}

step "the engine runs" eventually engine
step "a policy" policy
step "an image" image
step "containers that publish ports" containers
