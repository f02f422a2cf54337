#!/usr/bin/env bash
# guard dies without a word: the rules stay, and systemd starts another.
. "$(dirname "$0")/lib.sh"

killed() {
    host <<'END'
before=$(systemctl show --property MainPID --value dfw)
kill -KILL "$before"
for _ in {1..300}; do
    now=$(systemctl show --property MainPID --value dfw)
    if [ "$now" != 0 ] && [ "$now" != "$before" ] && systemctl is-active --quiet dfw; then return; fi
    sleep 0.1
done
systemctl status dfw
return 1
END
}

under_probe "$closed" "guard is killed, and started again" killed
reachable "$open" "what the policy opens"
