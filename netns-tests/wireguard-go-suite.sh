#!/usr/bin/env bash
# Runs the test script of wireguard-go's module, unmodified, with wireguard-go and then with
# `seedwire device` in its place. Prints how far each gets, and fails when seedwire gets less far.
# Needs root of the machine (the script sets a sysctl that exists only there), Go to find the
# module, and ncat, iperf3, iptables, ping and wg. Names of namespaces and sockets are private.
set -euo pipefail
cd "$(dirname "$0")/.."

# Runs SCRIPT with PROGRAM; the first process of a pid namespace, all of which ends with it.
inside() { # SCRIPT PROGRAM
    mount -t tmpfs suite /run
    mkdir -p /run/netns /run/wireguard
    cd /
    bash "$1" "$2" </dev/null
}

# How many steps a run took before its clean-up, which begins with a step that nothing else takes.
steps() { # LOG
    sed '/NS0: ip link del dev wg1/,$d' "$1" | grep -c '\[+\]'
}

last_step() { # LOG
    sed '/NS0: ip link del dev wg1/,$d' "$1" | sed -n 's/.*\[+\] \([^\x1b]*\).*/\1/p' | tail -n 1
}

run() { # NAME PROGRAM
    local log=$work/$1.log started=$SECONDS
    # The script's own exit code is that of its clean-up; its last step says that it is the last.
    SUITE_INSIDE=yes unshare --mount --pid --fork --kill-child --mount-proc \
        "$here/netns-tests/wireguard-go-suite.sh" "$source/tests/netns.sh" "$2" >"$log" 2>&1 || true
    local how="stopped in: $(last_step "$log")"
    grep -q 'Objects that were created were also destroyed' "$log" && how="to the end"
    printf '%-12s  %4d steps, %s (%d s)\n' "$1" "$(steps "$log")" "$how" $((SECONDS - started))
}

if [ "${SUITE_INSIDE:-}" = yes ]; then
    inside "$@"
    exit
fi

here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's/^wireguard_go=//p' scripts/peers.sh)
source=$(cd "$work" && go mod download -json "golang.zx2c4.com/wireguard@$version" |
    sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
seedwire=$(realpath "${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-musl/release/seedwire")
printf '#!/bin/sh\nexec %s device "$@"\n' "$seedwire" >"$work/program"
chmod +x "$work/program"

run wireguard-go "${SEEDWIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seedwire}/bin/wireguard-go"
run seedwire "$work/program"
if [ "$(steps "$work/seedwire.log")" -lt "$(steps "$work/wireguard-go.log")" ]; then
    tail -n 40 "$work/seedwire.log"
    echo "wireguard-go's suite: FAILED: seedwire gets less far than wireguard-go" >&2
    exit 1
fi
echo "wireguard-go's suite: ok"
