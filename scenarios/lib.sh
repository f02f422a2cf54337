# What the scenarios share; each of them sources it. README.md says what the environment must hold.
# shellcheck shell=bash
set -euo pipefail
scenario=$(basename "$0" .sh)
read -ra host_prefix <<<"${DFW_HOST:?the words before a command on the host under test}"
read -ra stranger_prefix <<<"${DFW_STRANGER:?the words before a command on the outside client}"
: "${DFW_ADDR4:?the address of the host as the stranger sees it}"
addresses=("$DFW_ADDR4" ${DFW_ADDR6:+"$DFW_ADDR6"})
# At which of them nobody may get in for a moment.
never=("${addresses[@]}")

# Ports of the container `web` that no policy names, and that the policy opens to any; the port of
# the container `bare` in the host's own network, and one that no container publishes at first.
closed=8080 open=8081 bare=7000 late=8085
# TCG guests are slow: nothing here takes that long unless it is broken.
patience=${DFW_PATIENCE:-60}

failures=0 steps=0 skipped=
scratch=$(mktemp -d)
finish() {
    local status=$?
    probe_stop 2>/dev/null || true
    rm -rf "$scratch"
    # Set to 1 by `exit 1` below, to anything by what was not expected to fail.
    if [ "$status" != 0 ] && [ "$failures" = 0 ]; then
        echo "FAIL $scenario: ended early with status $status"
    elif [ "$steps$skipped" = 0 ]; then
        echo "FAIL $scenario: had no step"
        exit 1
    elif [ "$failures" != 0 ]; then
        exit 1
    fi
}
trap finish EXIT

# Runs its input as a bash script with the words given. No word may need quoting: ssh would undo it.
# All of the script is there before any of it runs, and what it starts cannot read the rest of it.
host() { remote "${host_prefix[@]}" bash -s -- "$@"; }
stranger() { remote "${stranger_prefix[@]}" bash -s -- "$@"; }
remote() {
    { echo 'main() {' && cat && printf '\n}\nset -eu; main "$@" </dev/null\nexit\n'; } | "$@"
}

# `step WHAT COMMAND…` is one line of the report; a failure does not end the scenario.
step() {
    local what=$1
    shift
    steps=$((steps + 1))
    if "$@" >"$scratch/output" 2>&1; then
        echo "ok   $scenario: $what"
    else
        failures=$((failures + 1))
        echo "FAIL $scenario: $what"
        tail --lines 20 "$scratch/output" | uniq | sed 's/^/     | /'
    fi
}

# Ends a scenario that has nothing to try on this host.
skip() {
    skipped=yes
    echo "skip $scenario: $1"
    exit 0
}

# Tries a command again until it succeeds.
eventually() {
    local end=$((SECONDS + patience))
    until "$@"; do
        if [ "$SECONDS" -ge "$end" ]; then
            echo "not within $patience s: $*"
            return 1
        fi
        sleep 0.2
    done
}

# Whether the stranger gets an answer over HTTP from a port of an address, in every try of one.
answers() {
    timeout 60 "${stranger_prefix[@]}" bash -s -- "$1" "$2" <<'END'
{
    timeout 4 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET / HTTP/1.0\r\n\r\n" >&3 &&
        read -r line <&3 && [[ $line == HTTP/* ]]' "$1" "$2" </dev/null 2>/dev/null
    exit
}
END
}
# Asks all addresses at once, as silence takes its time, and writes down what each of them did.
ask_everywhere() {
    local address asked
    local -a asking=()
    for address in "${addresses[@]}"; do
        answers "$address" "$1" &
        asking+=("$! $address")
    done
    for asked in "${asking[@]}"; do
        if wait "${asked%% *}"; then echo "an answer from ${asked#* } port $1"; else
            echo "no answer from ${asked#* } port $1"
        fi
    done >"$scratch/asked"
}
answers_everywhere() {
    ask_everywhere "$1"
    ! grep "^no answer" "$scratch/asked"
}
answers_nowhere() {
    ask_everywhere "$1"
    ! grep "^an answer" "$scratch/asked"
}
reachable() { step "the stranger reaches $2" eventually answers_everywhere "$1"; }
unreachable() { step "the stranger does not reach $2" answers_nowhere "$1"; }

# dfw as a service: in force when this returns, and out of the kernel.
dfw_on() {
    host <<'END'
systemctl reset-failed dfw 2>/dev/null || true
systemctl enable --quiet --now dfw
END
}
dfw_off() {
    host <<'END'
systemctl disable --quiet --now dfw
dfw remove >/dev/null
END
}

# The engine writes all of its rules anew. systemd allows three starts in a minute unless it forgets them.
restart_docker() {
    host <<'END'
systemctl reset-failed docker
systemctl restart docker
END
}

# The probe: the stranger opens a connection to a port of every address each 20 ms, whatever becomes
# of those before, until its input ends. It says `try` and, for a connection that was accepted, `in`.
probe_start() {
    : >"$scratch/probe"
    mkfifo "$scratch/stop"
    timeout 900 "${stranger_prefix[@]}" bash -s -- "$@" <"$scratch/stop" >"$scratch/probe" 2>/dev/null &
    probe=$!
    exec {probe_input}>"$scratch/stop"
    cat >&"$probe_input" <<'END'
{
    port=$1
    shift
    pending=()
    status=142
    while [ "$status" -gt 128 ]; do
        for address; do
            (exec 3<>"/dev/tcp/$address/$port" && echo "in at $address, $EPOCHREALTIME") 2>/dev/null </dev/null &
            pending+=($!)
        done
        echo "try $EPOCHREALTIME"
        # A connection that nobody answers is given up after a second and a half.
        if [ "${#pending[@]}" -gt 64 ]; then
            kill "${pending[0]}" 2>/dev/null
            pending=("${pending[@]:1}")
        fi
        status=0
        read -r -t 0.02 || status=$?
    done
    kill "${pending[@]}" 2>/dev/null
    wait
    exit
} 2>/dev/null
END
}
probe_stop() {
    [ -n "${probe_input:-}" ] || return 0
    exec {probe_input}>&-
    probe_input=
    wait "$probe" || true
    rm -f "$scratch/stop"
}
probed() { grep --count "^$1" "$scratch/probe" || true; }
probed_often() { [ "$(probed try)" -ge "$1" ]; }
probed_in() { [ "$(probed in)" -gt 0 ]; }

# `under_probe PORT WHAT COMMAND…`: while the command runs, the stranger never gets in at the port.
# The same probe gets in before, without the policy: otherwise its silence would prove nothing.
under_probe() {
    local port=$1 what=$2
    shift 2
    dfw_off
    probe_start "$port" "${addresses[@]}"
    step "without dfw the probe gets in" eventually probed_in
    probe_stop
    dfw_on
    # What the engine had published before a guard that found no table is closed by its first answer.
    step "with dfw the stranger is out" eventually answers_nowhere "$port"
    probe_start "$port" "${addresses[@]}"
    step "the probe runs" eventually probed_often 5
    step "$what" "$@"
    # What was let in at the end of it must have the time to be told.
    local before
    before=$(probed try)
    step "the probe still runs" eventually probed_often $((before + 20))
    probe_stop
    step "meanwhile no one of $(probed try) tries got in at ${never[*]}" not_in
}
not_in() {
    local address status=0
    for address in "${never[@]}"; do
        if grep "^in at $address," "$scratch/probe"; then status=1; fi
    done
    [ "$status" = 0 ] || tail --lines 1 "$scratch/probe"
    return "$status"
}

# On kernels before 6.9 nobody can own a table: a flush opens it until guard has put it back.
kernel_has_owners() {
    host <<'END'
IFS=.- read -r major minor _ < <(uname -r)
[ "$major" -gt 6 ] || { [ "$major" = 6 ] && [ "$minor" -ge 9 ]; }
END
}
guard_is_active() {
    host <<'END'
systemctl is-active --quiet dfw && dfw status >/dev/null
END
}
host_has() {
    host "$1" <<'END'
command -v "$1" >/dev/null
END
}

# `under_flush WHAT COMMAND…`: as `under_probe`; where the table cannot be owned, the stranger must be
# out again, however many of the probe's tries got in before.
under_flush() {
    if kernel_has_owners; then
        under_probe "$closed" "$@"
    else
        dfw_on
        step "$@"
        step "guard has put its table back: the stranger is out" eventually answers_nowhere "$closed"
    fi
}
