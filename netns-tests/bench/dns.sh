#!/usr/bin/env bash
# The DNS forwarder beside its peers, in one run: CPU time of the server per question, questions a
# second, latency and memory, with two unbound stubs behind. `make bench-dns` runs it.
#
#   netns-tests/bench/dns.sh [SERVER...]
#
# SERVER: echo seedwire unbound dnsdist dnsmasq coredns hickory-dns; all but the last by default.
# SECONDS_EACH is the time of one load (5). SEEDWIRE is the binary. `new` names are asked for once
# each, so every question goes to a stub. Last, one stub falls silent under 2,000 questions a second.
# Everything happens in a network namespace of its own and is gone at the end.
set -euo pipefail

if [ -z "${SEEDWIRE_BENCH_INSIDE:-}" ]; then
    exec env SEEDWIRE_BENCH_INSIDE=1 unshare --user --map-root-user --net --pid --fork \
        --mount --mount-proc --kill-child "$0" "$@"
fi

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${SEEDWIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seedwire}
seedwire=${SEEDWIRE:-${CARGO_TARGET_DIR:-$root/target}/$(uname -m)-unknown-linux-musl/release/seedwire}
seconds=${SECONDS_EACH:-5}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:$cache/bin
servers=("$@")
[ $# -gt 0 ] || servers=(echo seedwire unbound dnsdist dnsmasq coredns)

work=$(mktemp -d "${TMPDIR:-/tmp}/seedwire-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
ip link set lo up
for last in 1 2 10; do ip address add "198.18.0.$last/32" dev lo; done
listen=198.18.0.10

gcc -O2 -o "$work/echo" "$here/echo.c"
awk 'BEGIN { for (i = 0; i < 1000; i++) print "kept" i ".bench.example A" }' >"$work/kept"
# Names of a dozen lengths, as those of clients are.
awk -v s="$seconds" 'BEGIN {
    for (i = 0; i < 150000 * s; i++)
        print i substr("-of-a-length", 1, i * 7919 % 13) ".bench.example A"
}' >"$work/new"
head -n 20000 "$work/new" | sed 's/^/late/' >"$work/late"

stubs=()
for last in 1 2; do
    cat >"$work/stub$last.conf" <<EOF
server:
 interface: 198.18.0.$last
 access-control: 0.0.0.0/0 allow
 directory: $work
 chroot: ""
 username: ""
 pidfile: ""
 use-syslog: no
 do-daemonize: no
 num-threads: 1
 local-zone: "bench.example." redirect
 local-data: "bench.example. 3600 A 192.0.2.77"
remote-control:
 control-enable: no
EOF
    unbound -d -c "$work/stub$last.conf" >"$work/stub$last.log" 2>&1 &
    stubs+=($!)
done

# Each runs one server in the foreground, as plain as its manual shows it, with a cache of 10,000
# answers and one thread where it can be chosen.
run_echo() { exec "$work/echo" $listen 53; }
run_seedwire() {
    cat >"$work/seedwire.yaml" <<EOF
dns: {listen: ["$listen:53"], upstreams: ["198.18.0.1:53", "198.18.0.2:53"]}
control: {http: "127.0.0.1:9586", socket: $work/control.sock}
EOF
    exec "$seedwire" run -c "$work/seedwire.yaml"
}
run_unbound() {
    cat >"$work/unbound.conf" <<EOF
server:
 interface: $listen
 access-control: 0.0.0.0/0 allow
 directory: $work
 chroot: ""
 username: ""
 pidfile: ""
 use-syslog: no
 do-daemonize: no
 num-threads: 1
 outgoing-range: 4096
 num-queries-per-thread: 2048
 module-config: "iterator"
forward-zone:
 name: "."
 forward-addr: 198.18.0.1
 forward-addr: 198.18.0.2
remote-control:
 control-enable: no
EOF
    exec unbound -d -c "$work/unbound.conf"
}
run_dnsdist() {
    cat >"$work/dnsdist.conf" <<EOF
setLocal("$listen:53")
setACL({"0.0.0.0/0"})
setSecurityPollSuffix("")
newServer{address="198.18.0.1", checkName="up.bench.example."}
newServer{address="198.18.0.2", checkName="up.bench.example."}
getPool(""):setCache(newPacketCache(10000))
EOF
    exec dnsdist --supervised --disable-syslog -C "$work/dnsdist.conf"
}
run_dnsmasq() {
    exec dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces \
        --pid-file --user=root --listen-address=$listen --cache-size=10000 --dns-forward-max=2000 \
        --server=198.18.0.1 --server=198.18.0.2
}
run_coredns() {
    cat >"$work/Corefile" <<EOF
. {
    bind $listen
    cache
    forward . 198.18.0.1 198.18.0.2
}
EOF
    exec coredns -conf "$work/Corefile"
}
run_hickory-dns() {
    cat >"$work/hickory.toml" <<EOF
listen_addrs_ipv4 = ["$listen"]
[[zones]]
zone = "."
zone_type = "External"
stores = {type = "forward", name_servers = [
    {ip = "198.18.0.1", trust_negative_responses = true, connections = [{protocol = {type = "udp"}}]},
    {ip = "198.18.0.2", trust_negative_responses = true, connections = [{protocol = {type = "udp"}}]},
]}
EOF
    exec hickory-dns --quiet --config "$work/hickory.toml"
}

# CPU time of all threads of a process since their start, in us.
cpu_of() { # PID
    cat "/proc/$1/task/"*/schedstat | awk '{ sum += $1 } END { printf "%d", sum / 1000 }'
}

peak_of() { # PID
    awk '/^VmHWM/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"
}

# Prints: us of CPU per answer, answers a second, mean latency in us.
load() { # PID FILE DNSPERF-OPTION...
    local pid=$1 file=$2 before after
    shift 2
    before=$(cpu_of "$pid")
    dnsperf -s $listen -d "$work/$file" -c 20 -t 2 "$@" >"$work/dnsperf.log" 2>&1
    after=$(cpu_of "$pid")
    awk -v cpu=$((after - before)) '
        /Queries completed:/ { done = $3 }
        /Queries per second:/ { rate = $4 }
        /Average Latency/ { mean = $4 * 1e6 }
        END { printf "%.2f %d %d\n", done ? cpu / done : 0, rate, mean }' "$work/dnsperf.log"
}

# Prints what 99 of 100 answers take in ms at most, from a second after the first stub fell silent;
# `none` when fewer came after that than had to come before.
outage() {
    (sleep 1 && kill -STOP "${stubs[0]}") &
    dnsperf -v -s $listen -d "$work/late" -c 20 -t 5 -Q 2000 -l 5 >"$work/dnsperf.log" 2>&1
    kill -CONT "${stubs[0]}"
    # One line for each answer, in the order in which they came: 4,000 in two seconds.
    awk '/^> / { print $5 * 1000 }' "$work/dnsperf.log" | tail -n +4001 | sort -n |
        awk '{ all[NR] = $1 } END { if (NR) printf "%.1f", all[int(NR * 0.99)]; else printf "none" }'
}

# The results are lines of: server, then what load() prints for kept and for new names, the mean
# latency at 20,000 questions a second, MiB, and what outage() prints.
measure() { # SERVER
    local name=$1 pid attempt kept new slow silent=
    "run_$name" >"$work/$name.log" 2>&1 &
    pid=$!
    for attempt in $(seq 100); do
        dnsperf -s $listen -d <(echo "up.bench.example A") -n 1 -t 1 2>/dev/null |
            grep -q 'completed:  *1 ' && break
        kill -0 $pid 2>/dev/null || { cat "$work/$name.log" >&2; return 1; }
        sleep 0.1
    done
    load $pid kept -n 3 >/dev/null
    kept=$(load $pid kept -l "$seconds")
    slow=$(load $pid kept -l "$seconds" -Q 20000 | cut -d ' ' -f 1,3)
    new=$(load $pid new -l "$seconds")
    [ "$name" = echo ] || silent=$(outage)
    echo "$name $kept $new $slow $(peak_of $pid) ${silent:--}" >>"$work/results"
    kill $pid
    wait $pid 2>/dev/null || true
}

echo "load of $seconds s each: 20 clients, 100 questions under way, $(nproc) cores, load $(cut -d ' ' -f 1 /proc/loadavg)"
for server in "${servers[@]}"; do
    measure "$server" || echo "$server did not run" >&2
done

awk '
function ratio(what, value, of, goal) {
    if (value && of) printf "%-46s %5.2f  goal at most %.2f\n", what, value / of, goal
}
BEGIN {
    printf "%-12s %22s %22s %22s %7s %7s\n", "", "kept", "new", "kept, 20,000/s", "", "silent"
    printf "%-12s %7s %9s %4s %7s %9s %4s %11s %10s %7s %7s\n", "", "us CPU", "answers/s", "us",
        "us CPU", "answers/s", "us", "us CPU", "us", "MiB", "p99 ms"
}
{
    printf "%-12s %7.2f %9d %4d %7.2f %9d %4d %11.2f %10d %7.1f %7s\n", $1, $2, $3, $4, $5, $6, $7,
        $8, $9, $10, $11
    if ($1 == "seedwire") silent = $11
    kept[$1] = $2; new[$1] = $5; late[$1] = $9
    if ($1 != "seedwire" && $1 != "echo" && (!best || $9 < best)) best = $9
}
END {
    ours = "seedwire"
    ratio("kept, CPU: of unbound", kept[ours], kept["unbound"], 0.8)
    ratio("kept, CPU: of the echo server", kept[ours], kept["echo"], 1.15)
    ratio("new, CPU: of dnsdist", new[ours], new["dnsdist"], 0.85)
    ratio("new, CPU: of CoreDNS", new[ours], new["coredns"], 0.3)
    ratio("kept at 20,000/s, latency: of the best peer", late[ours], best, 1)
    ratio("one upstream silent for a second: p99, ms", silent, 1, 25)
}' "$work/results"
