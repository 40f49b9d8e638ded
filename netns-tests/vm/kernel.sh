#!/usr/bin/env bash
# The kernel's WireGuard against ours and wireguard-go's, both ways. Inside a guest with Debian's kernel (guest.sh):
# seedwire with the kernel backend, and a bare kernel link. Outside, in a network namespace of this machine: seedwire's
# userspace tunnel as hub and as client, and wireguard-go. Needs root.
#
#   kernel.sh [SEEDWIRE]    the binary to test
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "seedwire: the test against the kernel's WireGuard needs root" >&2; exit 1; }
seedwire=$(readlink -f "${1:-${CARGO_TARGET_DIR:-target}/debug/seedwire}")

if [ -z "${SEEDWIRE_VM_INSIDE:-}" ]; then
    netns-tests/vm/fetch.sh
    exec env SEEDWIRE_VM_INSIDE=1 unshare --net --mount --pid --fork --kill-child netns-tests/vm/kernel.sh "$seedwire"
fi
mount -t proc proc /proc
mount -t tmpfs run /run
mkdir -p /run/wireguard

# Neither /run nor /mnt, which are others in the guest.
W=$(mktemp -d /var/tmp/seedwire-vm.XXXXXX)
trap 'rm -rf "$W"' EXIT
cd "$W"
for name in hub go client kernel dialler outside; do
    wg genkey >$name.key
    wg pubkey <$name.key >$name.pub
done
wg genpsk >psk
chmod 600 ./*.key psk

ip link set lo up
ip tuntap add vm0 mode tap
ip address add 192.0.2.1/24 dev vm0
ip link set vm0 up

cat >hub.yaml <<Y
tunnel:
  interface: hub0
  backend: userspace
  privateKeyFile: $W/hub.key
  addresses: [10.9.1.1/24, "fd09:1::1/64"]
  listenPort: 51820
  peers:
    - {name: client, publicKey: "$(cat client.pub)", allowedIPs: [10.9.1.2/32, "fd09:1::2/128"]}
    - {name: dialler, publicKey: "$(cat dialler.pub)", allowedIPs: [10.9.1.3/32]}
control: {socket: $W/hub.sock}
Y
cat >outside.yaml <<Y
tunnel:
  interface: out0
  backend: userspace
  privateKeyFile: $W/outside.key
  addresses: [10.9.3.2/24]
  peers:
    - {name: kernel, publicKey: "$(cat kernel.pub)", presharedKeyFile: $W/psk, endpoint: "192.0.2.2:51830", keepalive: 1s, allowedIPs: [10.9.3.1/32]}
control: {socket: $W/outside.sock, http: "127.0.0.1:9587"}
Y
many=$(for i in $(seq 0 2499); do printf '10.%d.%d.0/24, ' $((100 + i / 250)) $((i % 250)); done)
cat >client.yaml <<Y
tunnel:
  interface: seed0
  privateKeyFile: $W/client.key
  addresses: [10.9.1.2/24, "fd09:1::2/64", 10.9.2.2/24]
  peers:
    - {name: hub, publicKey: "$(cat hub.pub)", endpoint: ["192.0.2.77:51820", "192.0.2.1:51820"], keepalive: 5s, allowedIPs: [10.9.1.1/32, "fd09:1::1/128"]}
    - {name: go, publicKey: "$(cat go.pub)", presharedKeyFile: $W/psk, endpoint: "192.0.2.1:51821", allowedIPs: [${many}10.9.2.1/32]}
network: {routes: [{to: 10.9.1.0/24}]}
control: {socket: /run/seedwire.sock}
Y
sed 's/\[{to: 10.9.1.0\/24}\]/[{to: 10.9.1.0\/24}, {to: 10.77.0.0\/16}]/; s/{name: go,.*10.9.2.1/{name: go, publicKey: "'"$(sed 's/[\/&]/\\&/g' go.pub)"'", presharedKeyFile: '"${W//\//\\/}"'\/psk, endpoint: "192.0.2.1:51821", allowedIPs: [10.77.0.0\/16, 10.9.2.1/' client.yaml >client-new.yaml

"$seedwire" run -c hub.yaml >hub.log 2>&1 &
"$seedwire" run -c outside.yaml >outside.log 2>&1 &
wireguard-go -f go0 >go.log 2>&1 &
for _ in $(seq 300); do [ -S /run/wireguard/go0.sock ] && break || sleep 0.1; done
wg set go0 private-key go.key listen-port 51821 \
    peer "$(cat client.pub)" preshared-key psk allowed-ips 10.9.2.2/32
ip address add 10.9.2.1/24 dev go0
ip link set go0 up

{
    echo "W=$W seedwire=$seedwire"
    cat "$OLDPWD/netns-tests/vm/guest.sh"
} >guest.sh
status=0
"$OLDPWD/netns-tests/vm/boot.sh" "$W/guest.sh" vm0 || status=$?
if [ "$status" != 0 ]; then
    tail -n 20 hub.log outside.log go.log
fi
exit "$status"
