#!/usr/bin/env bash
# What a machine needs before the scenarios: Docker and who else filters on a host, and on the stranger
# nothing that is not there. The one word says which of the two it is. Runs as root.
set -euo pipefail

# Debian and Ubuntu have an engine of their own; busybox-static needs no registry.
debian() {
    export DEBIAN_FRONTEND=noninteractive
    local package
    local -a missing=()
    for package in docker.io nftables firewalld busybox-static; do
        dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null |
            grep --quiet --line-regexp installed || missing+=("$package")
    done
    # Since Debian 13 the engine's client is a package of its own.
    if ! command -v docker >/dev/null && apt-cache show docker-cli >/dev/null 2>&1; then
        missing+=(docker-cli)
    fi
    if [ "${#missing[@]}" != 0 ]; then
        apt-get update --quiet
        apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
    fi
}

fedora() {
    dnf install --assumeyes --quiet moby-engine nftables firewalld busybox
}

# Enterprise Linux has no Docker of its own, and no busybox: the image comes from the registry.
enterprise() {
    dnf install --assumeyes --quiet dnf-plugins-core nftables firewalld
    dnf config-manager --add-repo https://download.docker.com/linux/centos/docker-ce.repo
    dnf install --assumeyes --quiet docker-ce docker-ce-cli containerd.io
}

case ${1:?stranger or host} in
stranger) exit ;;
host) ;;
*) echo "provision.sh: neither stranger nor host: $1" >&2; exit 2 ;;
esac
. /etc/os-release
case " $ID ${ID_LIKE:-} " in
*" debian "*) debian ;;
*" fedora "*)
    if [ "$ID" = fedora ]; then fedora; else enterprise; fi
    ;;
*) echo "provision.sh: knows Debian, Fedora and their kin, not $ID" >&2; exit 1 ;;
esac
# Scenarios start it when they want it; until then it would close what they look for.
systemctl disable --quiet --now firewalld
systemctl enable --quiet --now docker
