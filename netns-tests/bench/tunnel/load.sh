# What a tunnel carries, and what that costs. Each row tells its figures. Sourced by ../tunnel.sh.
# shellcheck shell=bash

# A load of iperf3 from `a`; its report is $work/iperf. Fails where there is none.
iperf() { # ARGUMENT...
    in_a iperf3 -J "$@" >"$work/iperf" 2>/dev/null && jq -e '.error | not' <"$work/iperf" >/dev/null
}

# TCP: Gbit/s, and CPU seconds of both ends for each GB.
flow() { # ROW ARGUMENT...
    local row=$1 before bytes bits
    shift
    before=$(cpu_of a b)
    iperf -t "$seconds" "$@" || return 0
    read -r bytes bits < <(jq -r '.end.sum_received | "\(.bytes) \(.bits_per_second)"' "$work/iperf")
    [ "$bytes" != 0 ] || return 0
    tell "$row.rate" "$(calc "$bits / 1e9")"
    tell "$row.cpu" "$(calc "($(cpu_of a b) - $before) / ($bytes / 1e9)")"
}

# Peaks count from the start of the ends, so these two come first.
row_tcp() {
    flow tcp -c 10.9.0.2
    tell tcp.rss "$(calc "$(memory_of VmHWM a b) / 1024")"
}

row_four() {
    flow four -c 10.9.0.2 -P 4
    tell four.rss "$(calc "$(memory_of VmHWM a b) / 1024")"
}

row_reverse() { flow reverse -c 10.9.0.2 -R; }

row_inside6() { flow inside6 -c fd09::2; }

row_outside6() {
    endpoint a '[2001:db8::2]:51002'
    endpoint b '[2001:db8::1]:51001'
    flow outside6 -c 10.9.0.2
    endpoint a 192.0.2.2:51002
    endpoint b 192.0.2.1:51001
}

endpoint() { # END ADDRESS
    ip netns exec "$1" wg set "bench$1" peer "$(cat "$work/$(other_of "$1").pub")" endpoint "$2"
}

# Whether packets of 1,400 bytes pass at a rate with under 0.1 % lost; a hiccup of the machine has
# a second chance. Leaves Mbit/s of what arrived in `arrived`.
passes() { # MBIT/S
    local lost
    for _ in 1 2; do
        iperf -c 10.9.0.2 -u -b "$1M" -l 1372 -w 1M -t 1 || continue
        read -r lost arrived < <(jq -r '.end.sum |
            "\(.lost_percent) \((.packets - .lost_packets) * 1400 * 8 / .seconds / 1e6)"' "$work/iperf")
        if (($(calc "$lost < 0.1"))); then return 0; fi
        if (($(calc "$lost > 1"))); then return 1; fi
    done
    return 1
}

# Bisects between 100 Mbit/s and 6.4 Gbit/s, until the step is 7 %, or 30 %.
row_udp() {
    local low=100 high=6400 rate best=0 arrived steps=6
    [ -z "$quick" ] || steps=4
    for _ in $(seq "$steps"); do
        rate=$(calc "int(sqrt($low * $high))")
        if passes "$rate"; then
            best=$(calc "$arrived > $best ? $arrived : $best")
            low=$rate
            # The sender is slower than the tunnel.
            if (($(calc "$arrived < 0.9 * $rate"))); then break; fi
        else
            high=$rate
        fi
    done
    tell udp.rate "$(calc "$best / 1000")"
}

# 64 B in UDP as fast as they are sent: thousands that arrive for each CPU second of both ends.
row_small() {
    local before arrived
    before=$(cpu_of a b)
    iperf -c 10.9.0.2 -u -b 0 -l 64 -w 1M -t "$seconds" || return 0
    arrived=$(jq '.end.sum.packets - .end.sum.lost_packets' "$work/iperf")
    tell small.rate "$(calc "$arrived / ($(cpu_of a b) - $before) / 1000")"
}

round_trip() { # COUNT INTERVAL; the median in microseconds
    in_a ping -n -c "$1" -i "$2" 10.9.0.2 | sed -n 's/.*time=\([0-9.]*\) ms/\1/p' | median
}

row_ping() {
    local load
    tell ping.idle "$(calc "1000 * $(round_trip $((seconds * 250)) 0.002)")"
    in_a iperf3 -c 10.9.0.2 -t $((seconds + 1)) >/dev/null 2>&1 &
    load=$!
    sleep 0.5
    tell ping.load "$(calc "1000 * $(round_trip $((seconds * 100)) 0.01)")"
    wait "$load" || true
}
