#!/bin/sh
# Says in one line what a make target needs and does not find here, and exits 1.
#
#   scripts/need.sh rust          the Rust of Cargo.toml's rust-version
#   scripts/need.sh go WHAT       a Go that can build WHAT
#   scripts/need.sh target NAME   Rust's standard library for a target; added when rustup is there
#   scripts/need.sh fuzz          cargo-fuzz and a C++ compiler
#   scripts/need.sh programs      what the tests run; installed from Debian when they are missing
#   scripts/need.sh bench-dns     what the DNS bench runs; likewise
#   scripts/need.sh bench-tunnel  what the tunnel's bench runs; likewise
#   scripts/need.sh vm            what the test in a guest runs; likewise
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# PROGRAM:DEBIAN-PACKAGE
programs='wireguard-go:wireguard-go wg:wireguard-tools unbound:unbound dnsmasq:dnsmasq-base
ip:iproute2 nft:nftables conntrack:conntrack ping:iputils-ping dig:bind9-dnsutils ps:procps'

bench_dns='unbound:unbound dnsmasq:dnsmasq-base dnsdist:dnsdist dnsperf:dnsperf gcc:gcc ip:iproute2'

bench_tunnel='wg:wireguard-tools iperf3:iperf3 jq:jq ping:iputils-ping ip:iproute2 gcc:gcc openssl:openssl
openvpn:openvpn'

vm='qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio modprobe:kmod wg:wireguard-tools
wireguard-go:wireguard-go'

fail() {
    echo "seedwire: $*" >&2
    exit 1
}

older() { # FOUND WANTED; nothing found is older too
    [ -z "$1" ] || [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" != "$2" ]
}

need_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | cut -d ' ' -f 2) || found=
    if older "$found" "$wanted"; then
        fail "Rust $wanted or newer is needed (found: ${found:-none}); rustup from https://rustup.rs installs it"
    fi
}

need_go() {
    found=$(go env GOVERSION 2>/dev/null | sed 's/^go//') || found=
    if older "$found" 1.23; then
        fail "Go 1.23 or newer is needed to build $1 (found: ${found:-none}); https://go.dev/dl has it"
    fi
}

need_target() {
    [ -d "$(rustc --print target-libdir --target "$1")" ] && return
    command -v rustup >/dev/null || fail "Rust's standard library for $1 is missing, and rustup, which adds it"
    rustup --quiet target add "$1"
}

need_fuzz() {
    cargo fuzz --version >/dev/null 2>&1 || fail "cargo-fuzz is needed; cargo install cargo-fuzz installs it"
    command -v c++ >/dev/null || fail "a C++ compiler is needed, with which libFuzzer is built"
}

missing_packages() { # LIST
    for pair in $1; do
        command -v "${pair%:*}" >/dev/null || printf '%s ' "${pair#*:}"
    done
}

quietly() { # COMMAND...; what it says is only shown when it fails
    said=$("$@" 2>&1 </dev/null) || fail "$said"
}

# Installs without starting or enabling what comes as a service (unbound would take port 53).
debian_install() { # PACKAGE...
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update
    quietly apt-get install --yes --no-install-recommends "$@"
    for package in "$@"; do
        case $package in
        unbound | dnsdist | openvpn | iperf3) systemctl --quiet disable "$package" 2>/dev/null || true ;;
        esac
    done
}

need_packages() { # NAME LIST
    packages=$(missing_packages "$2")
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null || fail "this needs programs that are missing; Debian calls them: $packages"
    if [ "$(id -u)" = 0 ]; then
        echo "installing from Debian what is needed and missing: $packages"
        # shellcheck disable=SC2086 # a list
        debian_install $packages
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        echo "installing from Debian, with sudo, what is needed and missing: $packages"
        sudo scripts/need.sh "$1"
    else
        fail "programs are missing here; as root: apt-get install --no-install-recommends $packages"
    fi
}

case ${1:-} in
rust) need_rust ;;
go) need_go "$2" ;;
target) need_target "$2" ;;
fuzz) need_fuzz ;;
programs) need_packages programs "$programs" ;;
bench-dns) need_packages bench-dns "$bench_dns" ;;
bench-tunnel) need_packages bench-tunnel "$bench_tunnel" ;;
vm) need_packages vm "$vm" ;;
*) fail "usage: scripts/need.sh rust | go WHAT | target NAME | fuzz | programs | bench-dns | bench-tunnel | vm" ;;
esac
