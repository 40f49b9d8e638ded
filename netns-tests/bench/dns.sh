#!/usr/bin/env bash
# The DNS forwarder beside its peers, with two unbound stubs behind: CPU time of the server per
# question, rates, latencies, memory, and what is left to clients beside floods. Prints one table
# with the goals of seedwire beside its figures. `make bench-dns` runs it.
#
#   netns-tests/bench/dns.sh [-q] [-n SECONDS] [-r ROUNDS] [-o ROW]... [SERVER...]
#
# SERVER: echo seedwire unbound dnsdist dnsmasq coredns hickory-dns, all by default. SEEDWIRE is the
# binary (the static one). ROW: kept steady tcp idle new memory core beside silent soak, all but the
# last by default; core, beside and soak are of seedwire alone. -q: each once and for a second.
# Needs unbound, dnsperf, gcc, ip, and of the peers those that are to be compared. Rounds are
# interleaved; each figure is the median. All share the machine, so only the ratios of one run mean
# something. Everything happens in namespaces of its own and is gone at the end.
set -euo pipefail

bench=$(cd "$(dirname "$0")" && pwd)
here=$bench/dns
arguments=("$@")
seconds=3 rounds=3 only=''
while getopts qn:r:o: option; do
    case $option in
        q) seconds=1 rounds=1 ;;
        n) seconds=$OPTARG ;;
        r) rounds=$OPTARG ;;
        o) only="$only $OPTARG" ;;
        *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))

if [ "${BENCH_INSIDE:-}" != yes ]; then
    export BENCH_INSIDE=yes
    exec unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc \
        "$0" "${arguments[@]}"
fi
for part in ../common servers world load memory beside; do
    # shellcheck source=/dev/null
    . "$here/$part.sh"
done

servers=("$@")
[ $# -gt 0 ] || servers=(echo seedwire unbound dnsdist dnsmasq coredns hickory-dns)
found=()
for server in "${servers[@]}"; do
    if is_there "$server"; then found+=("$server"); else echo "$server: not there" >&2; fi
done

# In the order in which they are measured: the memory of clients before that of a full cache.
rows_of() { # SERVER
    local row always="kept steady tcp new" last="idle memory silent" asked_for=''
    case $1 in
        echo) always="kept steady new" last='' ;;
        seedwire) last="$last core beside" asked_for=soak ;;
    esac
    [ "$round" = "$rounds" ] || last='' asked_for=''
    for row in kept steady tcp idle new memory core beside silent soak; do
        if [[ "$only " == *" $row "* ]]; then
            [[ " $always $last $asked_for " != *" $row "* ]] || echo "$row"
        elif [[ -z $only && " $always $last " == *" $row "* ]]; then
            echo "$row"
        fi
    done
}

ulimit -n 4096
world_make
for round in $(seq "$rounds"); do
    turn="round $round"
    for program in "${found[@]}"; do
        rows=$(rows_of "$program")
        [ -n "$rows" ] || continue
        if server_start; then for row in $rows; do "row_$row"; done; fi
        server_stop
    done
done
table "$here/rows" best "${found[@]}"
