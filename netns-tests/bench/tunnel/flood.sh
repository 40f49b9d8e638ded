# What is left to a good peer while another host sends what must be refused. Sourced by ../tunnel.sh.
# shellcheck shell=bash

# The sender takes a processor's time by itself, wherever its datagrams go. So what a flood leaves
# is compared to what the same datagrams leave on their way to a port that nobody listens on.
row_flood() {
    local kind alone closed left
    alone=$(bits) || return 0
    closed=$(bits_beside index 51003) || return 0
    tell flood.closed "$(calc "$closed / $alone")"
    for kind in index mac forged replay; do
        left=$(bits_beside $kind 51002) || continue
        tell "flood.$kind" "$(calc "$left / $closed")"
        tell flood.rate "$(calc "$(cat "$work/flooded") / 1000")"
    done
}

bits() { # Gbit/s of one flow
    iperf -c 10.9.0.2 -t 2 && jq '.end.sum_received.bits_per_second / 1e9' "$work/iperf"
}

bits_beside() { # KIND PORT; 0 where nothing is left
    local flooding
    in_a "$work/flood" "$1" 192.0.2.2 "$2" 3 a0 >"$work/flooded" &
    flooding=$!
    sleep 0.3
    # So that there is a small packet to capture.
    in_a ping -n -c 3 -i 0.1 -W 0.1 10.9.0.2 >/dev/null 2>&1 || true
    bits || echo 0
    wait "$flooding"
}
