# What peers cost that are configured and say nothing. Sourced by ../tunnel.sh.
# shellcheck shell=bash

# Peers for wg(8) with random keys and an address each.
many_peers() { # COUNT KEEPALIVE-SECONDS
    head -c $(($1 * 32)) /dev/urandom | base64 -w 42 | awk -v count="$1" -v keepalive="$2" 'NR <= count {
        printf "[Peer]\nPublicKey = %sA=\nAllowedIPs = 10.%d.%d.%d/32\n", $0, NR / 65536, NR / 256 % 256, NR % 256
        if (keepalive) printf "PersistentKeepalive = %d\n", keepalive
    }'
}

# Milliseconds of CPU a minute, while nothing happens.
idle_cpu() {
    local before window=5
    [ -z "$quick" ] || window=2
    before=$(cpu_of a)
    sleep "$window"
    calc "($(cpu_of a) - $before) * 1000 * 60 / $window"
}

many_of() { # COUNT KEEPALIVE-SECONDS KEY
    local base began
    device_start a "$program"
    wg_a set bencha private-key "$work/a.key" listen-port 51001
    ip -n a link set bencha up
    many_peers "$1" "$2" >"$work/peers.conf"
    sleep 0.5
    base=$(memory_of VmRSS a)
    began=$EPOCHREALTIME
    wg_a addconf bencha "$work/peers.conf"
    tell "$3.set" "$(calc "${EPOCHREALTIME/,/.} - ${began/,/.}")"
    sleep 0.5
    tell "$3.memory" "$(calc "($(memory_of VmRSS a) - $base) * 1024 / $1")"
    tell "$3.cpu" "$(idle_cpu)"
    end_stop a
}

wg_a() { in_a wg "$@"; }

row_many() {
    many_of 1000 0 many1000
    [ -z "$quick" ] || return 0
    many_of 10000 0 many10000
    many_of 10000 25 kept10000
}
