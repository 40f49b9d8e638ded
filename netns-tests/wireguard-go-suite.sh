#!/usr/bin/env bash
# Runs the test script of wireguard-go's module, unmodified, with `seedwire device` in the place
# of wireguard-go. Needs root of the machine (it sets a sysctl that exists only there), Go to find
# the module, and ncat, iptables, iperf3, ping and wg. Names of namespaces and sockets are private.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${SUITE_INSIDE:-}" != yes ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    version=$(sed -n 's/^wireguard_go=//p' scripts/peers.sh)
    source=$(cd "$work" && go mod download -json "golang.zx2c4.com/wireguard@$version" |
        sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
    seedwire=$(realpath "${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-musl/release/seedwire")
    printf '#!/bin/sh\nexec %s device "$@"\n' "$seedwire" >"$work/program"
    chmod +x "$work/program"
    export SUITE_INSIDE=yes
    unshare --mount --pid --fork --kill-child --mount-proc "$PWD/netns-tests/wireguard-go-suite.sh" \
        "$source/tests/netns.sh" "$work/program"
    exit
fi

mount -t tmpfs suite /run
mkdir -p /run/netns /run/wireguard
cd /
# The script's own exit code is that of its clean-up; its last step says that it came to the end.
log=/run/suite.log
bash "$1" "$2" </dev/null 2>&1 | tee "$log"
grep -q 'Objects that were created were also destroyed' "$log" || {
    echo "wireguard-go's suite: FAILED" >&2
    exit 1
}
echo "wireguard-go's suite: ok"
