# Two hosts, `a` and `b`, on a veth, and the ends of a tunnel on them. Sourced by ../tunnel.sh.
# shellcheck shell=bash

declare -A pids
ticks=$(getconf CLK_TCK)

world_make() {
    mount -t tmpfs bench /run
    mkdir -p /run/netns /run/wireguard
    work=$(mktemp -d /run/bench.XXXX)
    for end in a b; do
        ip netns add "$end"
        ip -n "$end" link set lo up
        wg genkey >"$work/$end.key"
        wg pubkey <"$work/$end.key" >"$work/$end.pub"
    done
    ip link add a0 netns a type veth peer name b0 netns b
    for end in a b; do
        ip -n "$end" address add "192.0.2.$(last_of $end)/24" dev "${end}0"
        ip -n "$end" address add "2001:db8::$(last_of $end)/64" dev "${end}0" nodad
        ip -n "$end" link set "${end}0" up
    done
    gcc -O2 -o "$work/echo" "$here/../echo.c"
    gcc -O2 -o "$work/start" "$here/start.c"
    gcc -O2 -o "$work/flood" "$here/flood.c"
    ip netns exec b "$work/echo" 0.0.0.0 7 &
}

in_a() { ip netns exec a "$@"; }

# The last part of the addresses of an end, outside and inside; its port is 51000 more.
last_of() { # END
    case $1 in a) echo 1 ;; b) echo 2 ;; esac
}

other_of() { # END
    case $1 in a) echo b ;; b) echo a ;; esac
}

# Starts one end of a WireGuard program and waits for its socket.
device_start() { # END PROGRAM
    local device=bench$1
    rm -f "/run/wireguard/$device.sock"
    # shellcheck disable=SC2046 # a command may have arguments
    LOG_LEVEL=error ip netns exec "$1" $(command_of "$2") -f "$device" >"$work/$1.log" 2>&1 &
    pids[$1]=$!
    for _ in $(seq 200); do
        [ -S "/run/wireguard/$device.sock" ] && ip -n "$1" link show "$device" >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "$2 did not start:" >&2
    cat "$work/$1.log" >&2
    return 1
}

device_configure() { # END
    local device=bench$1 other
    other=$(other_of "$1")
    ip netns exec "$1" wg set "$device" private-key "$work/$1.key" listen-port "5100$(last_of "$1")" \
        peer "$(cat "$work/$other.pub")" allowed-ips "0.0.0.0/0,::/0" \
        endpoint "192.0.2.$(last_of "$other"):5100$(last_of "$other")" persistent-keepalive 25
    inside_up "$1"
}

# Gives the tunnel's link its addresses.
inside_up() { # END
    ip -n "$1" address add "10.9.0.$(last_of "$1")/24" dev "bench$1"
    ip -n "$1" link set "bench$1" mtu 1420 up
    ip -n "$1" address add "fd09::$(last_of "$1")/64" dev "bench$1" nodad
}

ends_start() { # PROGRAM
    for end in a b; do
        if [ "$1" = openvpn ]; then openvpn_start $end; else
            device_start $end "$1" && device_configure $end || return
        fi
    done
    ip netns exec b iperf3 -s >/dev/null 2>&1 &
    pids[iperf]=$!
    for _ in $(seq 100); do
        in_a ping -n -c 1 -W 0.1 10.9.0.2 >/dev/null 2>&1 && return
    done
    echo "the tunnel of $1 did not come up" >&2
    return 1
}

ends_stop() {
    for end in iperf a b; do end_stop $end; done
}

end_stop() { # END
    [ -n "${pids[$1]:-}" ] || return 0
    kill "${pids[$1]}" 2>/dev/null || true
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
    # A program may end before its link does.
    while ip -n "$1" link show "bench$1"; do sleep 0.05; done >/dev/null 2>&1
}

# CPU seconds that these ends have used.
cpu_of() { # END...
    local end
    for end in "$@"; do sed 's/.*) //' "/proc/${pids[$end]}/stat"; done |
        awk -v ticks="$ticks" '{sum += $12 + $13} END {print sum / ticks}'
}

# Of these ends, the most kilobytes that a field of the status tells.
memory_of() { # FIELD END...
    local field=$1 end
    shift
    for end in "$@"; do cat "/proc/${pids[$end]}/status"; done |
        awk -v field="$field:" '$1 == field && $2 > most {most = $2} END {print most}'
}
