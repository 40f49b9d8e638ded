# Which servers there are, and how each is started: in the foreground, as plain as its manual shows
# it, with a cache of 10,000 answers and one thread where that can be chosen. Sourced by ../dns.sh.
# shellcheck shell=bash

seedwire=${SEEDWIRE:-${CARGO_TARGET_DIR:-$bench/../../target}/$(uname -m)-unknown-linux-musl/release/seedwire}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${SEEDWIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seedwire}/bin
listen=198.18.0.10

is_there() { # SERVER
    case $1 in
        echo) ;;
        seedwire) [ -x "$seedwire" ] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

run_echo() { exec "$work/echo" $listen 53; }

run_seedwire() {
    cat >"$work/seedwire.yaml" <<CONFIG
dns: {listen: ["$listen:53"], upstreams: ["198.18.0.1:53", "198.18.0.2:53"]}
control: {http: "127.0.0.1:9586", socket: $work/control.sock}
CONFIG
    exec "$seedwire" run -c "$work/seedwire.yaml"
}

# What unbound says of itself in both of its roles.
unbound_plain() { # INTERFACE
    cat <<CONFIG
server:
 interface: $1
 access-control: 0.0.0.0/0 allow
 directory: $work
 chroot: ""
 username: ""
 pidfile: ""
 use-syslog: no
 do-daemonize: no
 num-threads: 1
remote-control:
 control-enable: no
CONFIG
}

run_unbound() {
    unbound_plain $listen >"$work/unbound.conf"
    cat >>"$work/unbound.conf" <<CONFIG
server:
 outgoing-range: 4096
 num-queries-per-thread: 2048
 incoming-num-tcp: 1100
 module-config: "iterator"
forward-zone:
 name: "."
 forward-addr: 198.18.0.1
 forward-addr: 198.18.0.2
CONFIG
    exec unbound -d -c "$work/unbound.conf"
}

run_dnsdist() {
    cat >"$work/dnsdist.conf" <<CONFIG
setLocal("$listen:53")
setACL({"0.0.0.0/0"})
setSecurityPollSuffix("")
newServer{address="198.18.0.1", checkName="up.bench.example."}
newServer{address="198.18.0.2", checkName="up.bench.example."}
getPool(""):setCache(newPacketCache(10000))
CONFIG
    exec dnsdist --supervised --disable-syslog -C "$work/dnsdist.conf"
}

run_dnsmasq() {
    exec dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces \
        --pid-file --user=root --listen-address=$listen --cache-size=10000 --dns-forward-max=2000 \
        --server=198.18.0.1 --server=198.18.0.2
}

run_coredns() {
    cat >"$work/Corefile" <<CONFIG
. {
    bind $listen
    cache
    forward . 198.18.0.1 198.18.0.2
}
CONFIG
    exec coredns -conf "$work/Corefile"
}

run_hickory-dns() {
    cat >"$work/hickory.toml" <<CONFIG
listen_addrs_ipv4 = ["$listen"]
user = "root"
group = "root"
[[zones]]
zone = "."
zone_type = "External"
stores = {type = "forward", name_servers = [
    {ip = "198.18.0.1", trust_negative_responses = true, connections = [{protocol = {type = "udp"}}]},
    {ip = "198.18.0.2", trust_negative_responses = true, connections = [{protocol = {type = "udp"}}]},
]}
CONFIG
    exec hickory-dns --quiet --config "$work/hickory.toml"
}
