# How long cached answers take beside what does not wish well, to how long they take alone.
# Sourced by ../dns.sh.
# shellcheck shell=bash

median_latency() {
    latencies 1000 "$work/kept" "$((seconds < 2 ? 2 : seconds))"
    part 50
}

beside() { # WHAT IDLE COMMAND...
    local what=$1 idle=$2 running
    shift 2
    "$@" >/dev/null 2>&1 &
    running=$!
    sleep 0.3
    tell "beside.$what" "$(calc "$(median_latency) / $idle")"
    kill $running 2>/dev/null || true
    wait $running 2>/dev/null || true
}

# Ports from which seedwire asks the first stub.
asking_ports() {
    awk '$3 == "010012C6:0035" { split($2, at, ":"); print at[2] }' /proc/net/udp |
        while read -r port; do echo $((16#$port)); done
}

row_beside() {
    local idle ports
    idle=$(median_latency)
    new_names 100000 >"$work/flood"
    # So that there are sockets to send spoofed answers to.
    ask "$work/flood" -n 1 -l 1
    mapfile -t ports < <(asking_ports)
    beside closed "$idle" "$work/hostile" spoof 198.18.0.1 9
    beside spoof "$idle" "$work/hostile" spoof 198.18.0.1 "${ports[@]}"
    beside names "$idle" dnsperf -s $listen -d "$work/flood" -c 20 -Q 10000
    beside slow "$idle" "$work/hostile" slow $listen 500
    rm "$work/flood"
}
