#!/usr/bin/env bash
# A neighbour routes packets straight to the container's address, past what Docker rewrites.
. "$(dirname "$0")/lib.sh"

container=$(host <<'END'
docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web
END
)
route() {
    stranger "$1" "$container" "$DFW_ADDR4" <<'END'
ip route "$1" "$2/32" via "$3"
END
}

step "dfw is off" dfw_off
step "the stranger has a route to the container" route replace
# Engines from 28 on deny this themselves, and so proves nothing here.
if answers "$container" 80; then
    step "the stranger reaches the container itself" true
    step "dfw is on" dfw_on
    addresses=("$container")
    unreachable 80 "the container itself"
    route del
else
    route del
    skip "the engine itself denies what is routed to containers"
fi
