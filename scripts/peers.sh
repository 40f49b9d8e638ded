#!/usr/bin/env bash
# Builds the real programs that seedwire is tested against, once, into a cache outside the checkout.
#
#   scripts/peers.sh PEER...     PEER: wireguard-go boringtun-cli gotatun coredns hickory-dns
#                                     loki promtail
#
# Prints nothing for a peer that is already there. The cache is $SEEDWIRE_CACHE, or
# $XDG_CACHE_HOME/seedwire, or ~/.cache/seedwire.
set -euo pipefail

cache=${SEEDWIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seedwire}
bin=$cache/bin
here=$(cd "$(dirname "$0")" && pwd)

wireguard_go=v0.0.0-20260522210424-ecfc5a8d5446
boringtun=0.7.1
gotatun=0.10.2
coredns=v1.15.0
hickory_dns=0.26.3
loki=v3.7.8
promtail=v3.5.0
# The version of Loki's own sub-module that both programs above were released with.
loki_push=v0.0.0-20250630054201-94c0ba7b0952

# Go without a line for each module that it fetches.
quiet_go() {
    go "$@" 2> >(grep -v '^go: downloading ' >&2)
}

# Builds PACKAGE of a module that does not install by name: the module's own requirements are
# copied into an empty wrapper module, which then builds the package as a dependency.
go_wrapped() { # NAME MODULE VERSION PACKAGE
    local dir=$work/$1 source
    mkdir -p "$dir"
    (
        cd "$dir"
        go mod init wrapper >/dev/null 2>&1
        source=$(quiet_go mod download -json "$2@$3" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
        cp "$source/go.mod" "$source/go.sum" .
        chmod u+w go.mod go.sum
        go mod edit -module=wrapper -dropreplace=github.com/grafana/loki/pkg/push \
            -require="$2@$3" -require="github.com/grafana/loki/pkg/push@$loki_push"
        CGO_ENABLED=0 GOFLAGS=-mod=mod quiet_go build -ldflags='-s -w' -o "$bin/.$1" "$4"
    )
    mv "$bin/.$1" "$bin/$1"
}

go_installed() { # NAME MODULE@VERSION BUILT-AS
    GOBIN=$work CGO_ENABLED=0 quiet_go install -ldflags='-s -w' "$2"
    mv "$work/$3" "$bin/$1"
}

cargo_installed() { # NAME CRATE@VERSION OPTION...
    cargo install --quiet --locked "${@:2}" --root "$work"
    mv "$work/bin/$1" "$bin/$1"
}

build() {
    case $1 in
    wireguard-go) go_installed wireguard-go "golang.zx2c4.com/wireguard@$wireguard_go" wireguard ;;
    coredns) go_installed coredns "github.com/coredns/coredns@$coredns" coredns ;;
    boringtun-cli) cargo_installed boringtun-cli "boringtun-cli@$boringtun" ;;
    gotatun) cargo_installed gotatun "gotatun-cli@$gotatun" ;;
    hickory-dns)
        cargo_installed hickory-dns "hickory-dns@$hickory_dns" --no-default-features --features resolver
        ;;
    loki)
        go_wrapped loki github.com/grafana/loki/v3 "$loki" github.com/grafana/loki/v3/cmd/loki
        ;;
    promtail)
        go_wrapped promtail github.com/grafana/loki/v3 "$promtail" github.com/grafana/loki/v3/clients/cmd/promtail
        ;;
    *)
        echo "scripts/peers.sh: unknown peer $1" >&2
        exit 64
        ;;
    esac
}

mkdir -p "$bin"
work=$(mktemp -d "${TMPDIR:-/tmp}/seedwire-peers.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
for peer in "$@"; do
    [ -x "$bin/$peer" ] && continue
    case $peer in boringtun-cli | gotatun | hickory-dns) ;; *) "$here/need.sh" go "$peer" ;; esac
    echo "building $peer (once, into $bin)"
    started=$SECONDS
    build "$peer"
    echo "built $peer in $((SECONDS - started)) s"
done
