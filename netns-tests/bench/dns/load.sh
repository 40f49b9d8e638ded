# What questions cost and how long they take. Each row tells its figures. Sourced by ../dns.sh.
# shellcheck shell=bash

# 20 clients with 100 questions under way; dnsperf's report is $work/asked.
ask() { # FILE DNSPERF-OPTION...
    local file=$1
    shift
    dnsperf -s $listen -d "$file" -c 20 -t 2 "$@" >"$work/asked" 2>/dev/null
}

# The CPU time of the server for each answer, and 1,000 answers a second.
load() { # ROW FILE DNSPERF-OPTION...
    local row=$1 before cpu done rate
    shift
    before=$(server_cpu)
    ask "$@" -l "$seconds"
    cpu=$(($(server_cpu) - before))
    read -r done rate < <(awk '/Queries completed:/ { done = $3 } /Queries per second:/ { rate = $4 }
        END { print done + 0, rate / 1000 }' "$work/asked")
    [ "$done" != 0 ] || return 0
    tell "$row.cpu" "$(calc "$cpu / $done")"
    tell "$row.rate" "$rate"
}

row_kept() {
    local before
    before=$(children_cpu)
    load kept "$work/kept"
    tell kept.client "$(calc "($(children_cpu) - $before) / $seconds")"
    tell memory.kept "$(calc "$(server_memory VmHWM) / 1024")"
}

# CPU seconds of the programs that have ended.
children_cpu() {
    sed 's/.*) //' /proc/$$/stat | awk -v ticks="$(getconf CLK_TCK)" '{ print ($14 + $15) / ticks }'
}

row_new() {
    new_names $((150000 * seconds)) >"$work/new"
    load new "$work/new"
    rm "$work/new"
}

row_tcp() { load tcp "$work/kept" -m tcp; }

# The latencies of answers, in us, are the lines of $work/latencies, the shortest first.
latencies() { # QUERIES-A-SECOND FILE SECONDS
    ask "$2" -v -Q "$1" -l "$3"
    awk '/^> / { print $5 * 1e6 }' "$work/asked" | sort -n >"$work/latencies"
}

part() { # PERCENT
    awk -v part="$1" '{ all[NR] = $1 } END { at = int(NR * part / 100 + 0.5); print all[at ? at : 1] }' "$work/latencies"
}

row_steady() {
    local before cpu
    before=$(server_cpu)
    latencies 20000 "$work/kept" "$seconds"
    cpu=$(($(server_cpu) - before))
    [ -s "$work/latencies" ] || return 0
    tell steady.p50 "$(part 50)"
    tell steady.p99 "$(part 99)"
    tell steady.cpu "$(calc "$cpu / $(wc -l <"$work/latencies")")"
}

# How much faster it is with both processors than with one, wherever the client runs.
row_core() {
    local both one
    taskset -a -p -c 0 "$pid" >/dev/null
    one=$(rate_of)
    taskset -a -p -c "0-$(($(nproc) - 1))" "$pid" >/dev/null
    both=$(rate_of)
    tell core.help "$(calc "$both / $one")"
}

rate_of() {
    ask "$work/kept" -l "$seconds"
    awk '/Queries per second:/ { print $4 }' "$work/asked"
}

# 2,000 new names a second, and the first stub stops after one. What 99 of 100 answers take from
# then on; without an answer where fewer came after that second than before.
row_silent() {
    new_names 12000 >"$work/new"
    (sleep 1 && kill -STOP "${stubs[0]}") &
    ask "$work/new" -v -t 5 -Q 2000 -l 5
    kill -CONT "${stubs[0]}"
    wait $!
    # One line for each answer, in the order in which they came: 4,000 in two seconds.
    awk '/^> / { print $5 * 1000 }' "$work/asked" | tail -n +4001 | sort -n >"$work/latencies"
    [ ! -s "$work/latencies" ] || tell silent.p99 "$(part 99)"
}
