# Two stubs, the names to ask for, and the server under test. Sourced by ../dns.sh.
# shellcheck shell=bash

stubs=()

world_make() {
    local last
    mount -t tmpfs bench /run
    work=$(mktemp -d /run/bench.XXXX)
    ip link set lo up
    for last in 1 2 10; do ip address add "198.18.0.$last/32" dev lo; done
    gcc -O2 -o "$work/echo" "$bench/echo.c"
    gcc -O2 -o "$work/hostile" "$here/hostile.c"
    awk 'BEGIN { for (i = 0; i < 1000; i++) print "kept" i ".bench.example A" }' >"$work/kept"
    for last in 1 2; do stub_start $last; done
}

# Answers every name below bench.example.
stub_start() { # LAST-PART-OF-ITS-ADDRESS
    unbound_plain "198.18.0.$1" >"$work/stub$1.conf"
    cat >>"$work/stub$1.conf" <<CONFIG
server:
 local-zone: "bench.example." redirect
 local-data: "bench.example. 3600 A 192.0.2.77"
CONFIG
    unbound -d -c "$work/stub$1.conf" >"$work/stub$1.log" 2>&1 &
    stubs+=($!)
}

# Names that were never asked for, of a dozen lengths, as those of clients are.
new_names() { # COUNT
    series=$((${series:-0} + 1))
    awk -v count="$1" -v series="$series" 'BEGIN {
        for (i = 0; i < count; i++)
            print i substr("-of-a-length", 1, i * 7919 % 13) "-" series ".bench.example A"
    }'
}

# Starts a server, waits for its first answer and has it keep the 1,000 names.
server_start() {
    "run_$program" >"$work/$program.log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        if dnsperf -s $listen -d <(echo "up.bench.example A") -n 1 -t 1 2>/dev/null |
            grep -q 'completed:  *1 '; then
            ask "$work/kept" -n 3 >/dev/null
            return
        fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "$program did not start:" >&2
    cat "$work/$program.log" >&2
    return 1
}

server_stop() {
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

# CPU time of all threads of the server since their start, in us.
server_cpu() {
    cat "/proc/$pid/task/"*/schedstat | awk '{ sum += $1 } END { printf "%d", sum / 1000 }'
}

# The server's memory in KiB: VmRSS now, VmHWM at most so far.
server_memory() { # FIELD
    awk -v field="$1:" '$1 == field { print $2 }' "/proc/$pid/status"
}

# A figure of seedwire's own.
metric() { # NAME
    exec 3<>/dev/tcp/127.0.0.1/9586
    printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    awk -v name="$1" '$1 == name { print $2 }' <&3
    exec 3<&-
}
