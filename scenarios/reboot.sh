#!/usr/bin/env bash
# From the last moment of one boot to the end of the next, the stranger never gets in.
. "$(dirname "$0")/lib.sh"

# What is in /run does not outlive a boot. Not the kernel's boot id: namespaces have none of their own.
marker=/run/dfw-scenarios-former-boot
reboot() {
    host "$marker" <<'END'
touch "$1"
systemctl --no-block reboot
END
    patience=$((patience * 5)) eventually is_back
}
is_back() {
    timeout 200 "${host_prefix[@]}" bash -s -- "$marker" <<'END'
{
    [ ! -e "$1" ] || exit 1
    # Degraded is enough: what matters is asked one by one.
    timeout 180 systemctl is-system-running --wait </dev/null >/dev/null || true
    # One after the other: of two units, it is enough that one is active.
    systemctl is-active --quiet dfw && systemctl is-active --quiet docker
    exit
}
END
}

under_probe "$closed" "the host reboots" reboot
step "guard runs" guard_is_active
unreachable "$closed" "a port that no policy names"
reachable "$open" "what the policy opens"
step "dfw is off" dfw_off
reachable "$closed" "a published port without dfw: its container came back"
step "dfw is on" dfw_on
