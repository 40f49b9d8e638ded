#!/usr/bin/env bash
# One tunnel between two namespaces, both ends by the same program, one program after the other:
# how fast it is, what it costs, and how that compares to the first program.
#
#   netns-tests/bench/tunnel.sh [-n SECONDS] [-r ROUNDS] [PROGRAM...]
#
# PROGRAM is a command that is called with `-f IFNAME` and makes a WireGuard device for wg(8);
# without any: wireguard-go and boringtun-cli as scripts/peers.sh built them, and the static
# seedwire. Needs root, wg, iperf3, ping, jq and ip. Rounds are interleaved; each figure is the
# median. All share the machine, so only the ratios of one run mean something.
set -euo pipefail
umask 077

seconds=5 rounds=3
while getopts n:r: option; do
    case $option in
        n) seconds=$OPTARG ;;
        r) rounds=$OPTARG ;;
        *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# = 0 ]; then
    root=$(cd "$(dirname "$0")/../.." && pwd)
    bin=${SEEDWIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seedwire}/bin
    seedwire=${CARGO_TARGET_DIR:-$root/target}/$(uname -m)-unknown-linux-musl/release/seedwire
    set -- "$bin/wireguard-go" "$bin/boringtun-cli --disable-drop-privileges" "$seedwire device"
fi

if [ "${BENCH_INSIDE:-}" != yes ]; then
    export BENCH_INSIDE=yes
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" -n "$seconds" -r "$rounds" "$@"
fi
mount -t tmpfs bench /run
mkdir -p /run/netns /run/wireguard
ticks=$(getconf CLK_TCK)
work=$(mktemp -d /run/bench.XXXX)

for end in a b; do
    ip netns add "$end"
    ip -n "$end" link set lo up
    wg genkey >"$work/$end.key"
    wg pubkey <"$work/$end.key" >"$work/$end.pub"
done
ip link add a0 netns a type veth peer name b0 netns b
ip -n a addr add 192.0.2.1/24 dev a0
ip -n b addr add 192.0.2.2/24 dev b0
ip -n a link set a0 up
ip -n b link set b0 up
ip netns exec b iperf3 -s -D --logfile /dev/null

# CPU seconds that a process has used.
used() {
    awk -v ticks="$ticks" '{sub(/.*\) /, ""); print ($12 + $13) / ticks}' "/proc/$1/stat"
}

start() { # END PORT PEER-END PEER-ADDRESS PROGRAM
    local end=$1 port=$2 other=$3 address=$4 device=bench$1
    # shellcheck disable=SC2086 # a program may have arguments
    LOG_LEVEL=error ip netns exec "$end" $5 -f "$device" >"$work/$end.log" 2>&1 &
    pids[$end]=$!
    for _ in $(seq 200); do
        [ -S "/run/wireguard/$device.sock" ] && ip -n "$end" link show "$device" >/dev/null 2>&1 && break
        sleep 0.05
    done
    ip netns exec "$end" wg set "$device" private-key "$work/$end.key" listen-port "$port" \
        peer "$(cat "$work/$other.pub")" allowed-ips "0.0.0.0/0,::/0" endpoint "$address" persistent-keepalive 25
    ip -n "$end" addr add "10.9.0.$((port - 51000))/24" dev "$device"
    ip -n "$end" link set "$device" mtu 1420 up
}

declare -A pids

# Prints one line: Gbit/s, CPU s per GB of both ends, ping ms, resident KB of the larger end,
# UDP loss in percent at 300 Mbit/s.
measure() {
    start a 51001 b 192.0.2.2:51002 "$1"
    start b 51002 a 192.0.2.1:51001 "$1"
    for _ in $(seq 50); do
        ip netns exec a ping -c 1 -W 1 10.9.0.2 >/dev/null 2>&1 && break
    done
    local ping before after result bytes bits udp rss
    ping=$(ip netns exec a ping -q -c 200 -i 0.005 10.9.0.2 | awk -F/ '/^rtt/{print $5}')
    before=$(echo "$(used "${pids[a]}") $(used "${pids[b]}")" | awk '{print $1 + $2}')
    result=$(ip netns exec a iperf3 -c 10.9.0.2 -t "$seconds" -J)
    after=$(echo "$(used "${pids[a]}") $(used "${pids[b]}")" | awk '{print $1 + $2}')
    bytes=$(jq .end.sum_received.bytes <<<"$result")
    bits=$(jq .end.sum_received.bits_per_second <<<"$result")
    rss=$(cat "/proc/${pids[a]}/status" "/proc/${pids[b]}/status" | awk '/^VmHWM/{if ($2 > most) most = $2} END{print most}')
    udp=$(ip netns exec a iperf3 -c 10.9.0.2 -u -b 300M -l 1350 -w 1M -t 2 -J | jq .end.sum.lost_percent)
    awk -v bits="$bits" -v bytes="$bytes" -v cpu="$before $after" -v ping="$ping" -v rss="$rss" -v udp="$udp" \
        'BEGIN{split(cpu, c, " "); printf "%.3f %.3f %s %d %.2f\n", bits / 1e9, (c[2] - c[1]) / (bytes / 1e9), ping, rss, udp}'
    kill "${pids[a]}" "${pids[b]}"
    wait "${pids[a]}" "${pids[b]}" 2>/dev/null || true
}

for round in $(seq "$rounds"); do
    number=0
    for program in "$@"; do
        number=$((number + 1))
        measure "$program" | tee -a "$work/$number" | sed "s|^|round $round, $program: |" >&2
    done
done

median() { # FILE COLUMN
    awk -v column="$2" '{print $column}' "$1" | sort -g | awk '{all[NR] = $1} END{print all[int((NR + 1) / 2)]}'
}

printf '%-50s %8s %8s %8s %8s %6s   %s\n' program Gbit/s CPUs/GB ping/ms RSS/KB UDP/% 'to the first: Gbit/s, CPU, ping'
number=0
for program in "$@"; do
    number=$((number + 1))
    row=()
    for column in 1 2 3 4 5; do row+=("$(median "$work/$number" "$column")"); done
    [ "$number" -gt 1 ] || first=("${row[@]}")
    ratios=$(awk -v r="${row[*]}" -v f="${first[*]}" \
        'BEGIN{split(r, a, " "); split(f, b, " "); printf "%.2fx %.2fx %.2fx", a[1] / b[1], a[2] / b[2], a[3] / b[3]}')
    printf "%-50.50s %8s %8s %8s %8s %6s   %s\n" "$program" "${row[@]}" "$ratios"
done
