#!/usr/bin/env bash
# One tunnel between two namespaces, both ends by the same program, one program after the other:
# how fast it is, what it costs, and how that compares to wireguard-go. Prints one table with the
# goals of seedwire beside its figures. `make bench-tunnel` runs it.
#
#   netns-tests/bench/tunnel.sh [-q] [-n SECONDS] [-r ROUNDS] [-o ROW]... [PROGRAM...]
#
# PROGRAM: wireguard-go seedwire seedwire-no-offload gotatun boringtun-cli openvpn, all by default,
# or a command that is called with `-f IFNAME` and makes a WireGuard device for wg(8). SEEDWIRE is
# the binary (the static one). ROW: tcp four reverse inside6 outside6 udp small ping start many
# flood; all by default, but only `tcp four ping` of programs that are neither the first nor a
# seedwire. -q: each once and for a second, with fewer peers. Needs root, wg, iperf3, ping, jq, ip,
# gcc, and openssl for OpenVPN. Rounds are interleaved; each figure is the median. All share the
# machine, so only the ratios of one run mean something.
set -euo pipefail
umask 077

bench=$(cd "$(dirname "$0")" && pwd)
here=$bench/tunnel
arguments=("$@")
seconds=3 rounds=3 quick='' only=''
while getopts qn:r:o: option; do
    case $option in
        q) quick=yes seconds=1 rounds=1 ;;
        n) seconds=$OPTARG ;;
        r) rounds=$OPTARG ;;
        o) only="$only $OPTARG" ;;
        *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))

if [ "${BENCH_INSIDE:-}" != yes ]; then
    export BENCH_INSIDE=yes
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "${arguments[@]}"
fi
for part in ../common programs world openvpn load start many flood; do
    # shellcheck source=/dev/null
    . "$here/$part.sh"
done

programs=("$@")
[ $# -gt 0 ] || programs=(wireguard-go seedwire seedwire-no-offload gotatun boringtun-cli openvpn)
found=()
for program in "${programs[@]}"; do
    if is_there "$program"; then found+=("$program"); else echo "$program: not there" >&2; fi
done

rows_of() { # PROGRAM
    local all="tcp four reverse inside6 outside6 udp small ping flood start"
    case $1 in
        openvpn) all="tcp four ping" ;;
        "${found[0]}" | seedwire) ;;
        seedwire-no-offload) all="tcp four reverse inside6 outside6 udp small ping" ;;
        *) all="tcp four ping" ;;
    esac
    for row in $all; do
        [ -n "$only" ] && [[ " $only " != *" $row "* ]] || echo "$row"
    done
}

world_make
for round in $(seq "$rounds"); do
    turn="round $round"
    for program in "${found[@]}"; do
        rows=$(rows_of "$program")
        [ -n "$rows" ] || continue
        # The row that ends one of the ends comes last.
        if ends_start "$program"; then for row in $rows; do "row_$row"; done; fi
        ends_stop
    done
done
if [ -z "$only" ] || [[ " $only " == *" many "* ]]; then
    turn="many peers"
    for program in "${found[@]}"; do
        [[ $program != "${found[0]}" && $program != seedwire ]] || row_many
    done
fi

table "$here/rows" wireguard-go "${programs[@]}"
