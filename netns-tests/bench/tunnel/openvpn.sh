# The ends of an OpenVPN tunnel without a CA: each knows the fingerprint of the other's certificate.
# Sourced by ../tunnel.sh.
# shellcheck shell=bash

openvpn_certificates() {
    for end in a b; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj "/CN=$end" -keyout "$work/$end.pem" -out "$work/$end.crt" 2>/dev/null
    done
}

fingerprint() { # END
    openssl x509 -in "$work/$1.crt" -noout -fingerprint -sha256 | cut -d = -f 2
}

# The packets stay with the process (no offload to the kernel), so that its CPU time is all of it.
openvpn_start() { # END
    local other role=(--tls-client)
    [ -e "$work/b.crt" ] || openvpn_certificates
    other=$(other_of "$1")
    [ "$1" = a ] || role=(--tls-server --dh none)
    ip netns exec "$1" openvpn "${role[@]}" --dev "bench$1" --dev-type tun --disable-dco --tun-mtu 1420 \
        --local "192.0.2.$(last_of "$1")" --port "5100$(last_of "$1")" \
        --remote "192.0.2.$(last_of "$other")" "5100$(last_of "$other")" udp \
        --ifconfig "10.9.0.$(last_of "$1")" "10.9.0.$(last_of "$other")" \
        --cert "$work/$1.crt" --key "$work/$1.pem" --peer-fingerprint "$(fingerprint "$other")" \
        --data-ciphers CHACHA20-POLY1305 --keepalive 10 60 >"$work/$1.log" 2>&1 &
    pids[$1]=$!
}
