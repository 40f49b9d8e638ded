# What runs in the guest; kernel.sh puts W (the folder with keys and configurations) and seedwire (the binary) before it.
set -uo pipefail
cd /run
failed=0
check() { # TEXT COMMAND...; tries for 20 s at least
    local text=$1
    shift
    for _ in $(seq 100); do
        if "$@" >/run/out 2>&1; then
            echo "ok      $text"
            return
        fi
        sleep 0.2
    done
    echo "FAILED  $text"
    cat /run/out
    failed=1
}
backend() { "$seedwire" status --json --socket /run/seedwire.sock | tr -d ' \n' | grep -q '"backend":"kernel"'; }
state() { "$seedwire" status --socket /run/seedwire.sock | grep -E "$1" | grep -qw "$2"; }
start() { # LOG
    "$seedwire" run -c /run/client.yaml >"$1" 2>&1 &
    pid=$!
}
handshake() { wg show seed0 latest-handshakes | awk -v key="$(cat "$W/hub.pub")" '$1 == key {print $2}'; }

mkdir -p /run/wireguard /run/netns
ip link set lo up
ip address add 192.0.2.2/24 dev eth0
ip link set eth0 up
cp "$W/client.yaml" /run/client.yaml
release=$(uname -r)
for module in $(modprobe -d "$MODULES" -S "$release" --show-depends wireguard | awk '/^insmod/ {print $2}') \
    $(modprobe -d "$MODULES" -S "$release" --show-depends tun | awk '/^insmod/ {print $2}') \
    $(modprobe -d "$MODULES" -S "$release" --show-depends nft_ct | awk '/^insmod/ {print $2}'); do
    insmod "$module" 2>/dev/null
done
[ -d /sys/module/wireguard ] || { echo "FAILED  the WireGuard module is there"; exit 1; }

echo "== the kernel backend"
check "the plan names the backend" sh -c "'$seedwire' check --plan -c /run/client.yaml | grep 'add link seed0 (backend kernel'"
start run.log
check "auto chose the kernel" backend
check "the second endpoint answers, IPv4" ping -c 1 -W 1 10.9.1.1
check "IPv6" ping -c 1 -W 1 fd09:1::1
check "wireguard-go with a preshared key" ping -c 1 -W 1 -I 10.9.2.2 10.9.2.1
check "status: the hub is up" state hub up
check "2,501 prefixes" sh -c 'test $(wg show seed0 allowed-ips | tr " \t" "\n\n" | grep -cE "/[0-9]+\$") = 2503'
before=$(handshake)
cp "$W/client-new.yaml" /run/client.yaml
kill -HUP $pid
check "a reload takes prefixes away" sh -c 'test $(wg show seed0 allowed-ips | tr " \t" "\n\n" | grep -cE "/[0-9]+\$") = 4'
check "and routes are added" sh -c 'ip route | grep -q 10.77.0.0/16'
check "sessions outlive it" test "$before" = "$(handshake)"
wg set seed0 peer "$(cat "$W/outside.pub")" allowed-ips 10.9.9.9/32
kill -HUP $pid
check "a foreign peer is taken away" sh -c "! wg show seed0 peers | grep -q '$(cat "$W/outside.pub")'"
kill -9 $pid
wait $pid 2>/dev/null
check "the link outlives a killed process" test -e /sys/class/net/seed0
start run2.log
check "the next one makes it anew" ping -c 1 -W 1 10.9.1.1
kill -9 $pid
wait $pid 2>/dev/null
check "down removes it" "$seedwire" down -c /run/client.yaml
check "and it is gone" test ! -e /sys/class/net/seed0
start run3.log
check "up again" ping -c 1 -W 1 10.9.1.1
kill $pid
wait $pid
check "a clean stop exits 0" test $? = 0
check "and removes the link" test ! -e /sys/class/net/seed0
ip link add seed0 type wireguard
timeout 20 "$seedwire" run -c /run/client.yaml >run4.log 2>&1
check "a foreign link is refused" grep -q "was not made by seedwire" run4.log
check "and stays" test -e /sys/class/net/seed0
ip link delete seed0

echo "== a bare kernel peer"
ip link add wgk type wireguard
wg set wgk private-key "$W/kernel.key" listen-port 51830 \
    peer "$(cat "$W/outside.pub")" preshared-key "$W/psk" allowed-ips 10.9.3.2/32
ip address add 10.9.3.1/24 dev wgk
ip link set wgk up
check "our userspace tunnel calls the kernel" ping -c 1 -W 1 10.9.3.2
ip link add wgd type wireguard
wg set wgd private-key "$W/dialler.key" \
    peer "$(cat "$W/hub.pub")" endpoint 192.0.2.1:51820 allowed-ips 10.9.1.1/32
ip address add 10.9.1.3/24 dev wgd
ip link set wgd up
check "the kernel calls our userspace tunnel" ping -c 1 -W 1 10.9.1.1

[ $failed = 0 ] || tail -n 20 /run/run*.log
exit $failed
