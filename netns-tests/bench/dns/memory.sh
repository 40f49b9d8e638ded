# What a server holds on to. Sourced by ../dns.sh.
# shellcheck shell=bash

# Clients over TCP that asked once and stay.
row_idle() {
    local base holding
    base=$(server_memory VmRSS)
    coproc "$work/hostile" idle $listen 1000
    holding=$COPROC_PID
    if read -r -t 20 _ <&"${COPROC[0]}"; then
        sleep 0.2
        tell idle.memory "$(calc "($(server_memory VmRSS) - $base) * 1024 / 1000")"
    fi
    kill "$holding"
    wait "$holding" || true
}

# Many more names than the cache has room for. What seedwire says of the cache is read meanwhile.
row_memory() {
    local most=0 bytes asking
    new_names 100000 >"$work/new"
    ask "$work/new" -n 1 &
    asking=$!
    while kill -0 $asking 2>/dev/null; do
        sleep 0.1
        [ "$program" = seedwire ] || continue
        bytes=$(metric seedwire_dns_cache_bytes)
        most=$((bytes > most ? bytes : most))
    done
    rm "$work/new"
    tell memory.full "$(calc "$(server_memory VmHWM) / 1024")"
    # `cache.maxBytes` by default.
    [ "$program" != seedwire ] || tell memory.cache "$(calc "$most / 4194304")"
}

# Ten minutes of cached and new names over UDP and TCP.
row_soak() {
    local loads=() early late
    new_names 3000000 >"$work/new"
    dnsperf -s $listen -d "$work/kept" -c 20 -Q 5000 -l 605 >/dev/null 2>&1 &
    loads+=($!)
    dnsperf -s $listen -d "$work/new" -c 20 -Q 4000 -l 605 >/dev/null 2>&1 &
    loads+=($!)
    dnsperf -s $listen -d "$work/kept" -c 20 -Q 1000 -l 605 -m tcp >/dev/null 2>&1 &
    loads+=($!)
    sleep 60
    early=$(server_memory VmRSS)
    sleep 540
    late=$(server_memory VmRSS)
    wait "${loads[@]}"
    rm "$work/new"
    tell soak.memory "$(calc "$late / $early")"
}
