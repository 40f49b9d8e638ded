# Which programs there are, and how each is started. Sourced by ../tunnel.sh.
# shellcheck shell=bash

cache=${SEEDWIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seedwire}/bin
target=${CARGO_TARGET_DIR:-$here/../../../target}
seedwire=${SEEDWIRE:-$target/$(uname -m)-unknown-linux-musl/release/seedwire}

# The command that makes a WireGuard device when it is called with `-f IFNAME`.
command_of() { # PROGRAM
    case $1 in
        wireguard-go) echo "$cache/wireguard-go" ;;
        seedwire) echo "$seedwire device" ;;
        seedwire-no-offload) echo "$seedwire device --offload none" ;;
        gotatun) echo "$cache/gotatun --disable-drop-privileges" ;;
        boringtun-cli) echo "$cache/boringtun-cli --disable-drop-privileges" ;;
        openvpn) command -v openvpn || echo openvpn ;;
        *) echo "$1" ;;
    esac
}

is_there() { # PROGRAM
    local command
    command=$(command_of "$1")
    [ -x "${command%% *}" ] || return
    [[ $command != *--offload* ]] || "$seedwire" device --help | grep -q -e --offload
}
