# Runs in a machine: takes scripts from the port of the one who runs it, and answers with their exit codes
# and what they have printed. A number of bytes goes before each script and each answer.
until [ -c /dev/virtio-ports/agent ]; do sleep 0.1; done
exec 3<>/dev/virtio-ports/agent
echo ready >&3
while read -r length <&3; do
    head -c "$length" <&3 >/run/agent-script
    code=0
    HOME=/root sh -eu /run/agent-script </dev/null >/run/agent-output 2>&1 || code=$?
    {
        echo "$code $(wc -c </run/agent-output)"
        cat /run/agent-output
    } >&3
done
