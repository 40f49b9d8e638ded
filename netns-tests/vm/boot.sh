#!/usr/bin/env bash
# boot.sh SCRIPT TAP: boots Debian's kernel, which has the WireGuard module, under QEMU's software emulation and runs
# SCRIPT there as root. This machine's files are the guest's root, read-only; eth0 is on the link TAP of this network
# namespace. Prints what the guest prints and returns the status of SCRIPT. fetch.sh has brought the kernel.
set -euo pipefail
script=$1 tap=$2
work=${SEEDWIRE_VM:-${XDG_CACHE_HOME:-$HOME/.cache}/seedwire/vm}
modules=$work/kernel

version=$(ls "$modules/lib/modules")

# What is needed until the 9p file system with everything else is there.
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,proc,sys,dev,mnt,modules}
cp "$(command -v busybox)" "$root/bin/busybox"
order=
for module in virtio_pci 9pnet_virtio 9p virtio_net; do
    for file in $(modprobe -d "$modules" -S "$version" --show-depends $module | awk '/^insmod/ {print $2}'); do
        name=$(basename "$file")
        [ -e "$root/modules/$name" ] || { cp "$file" "$root/modules/" && order="$order $name"; }
    done
done
cat >"$root/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in$order; do insmod /modules/\$module; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /mnt || poweroff -f
for fs in proc sysfs:sys devtmpfs:dev tmpfs:run tmpfs:mnt; do mount -t \${fs%:*} none /mnt/\${fs#*:}; done
ln -s /proc/self/fd /mnt/dev/fd
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin MODULES=$modules chroot /mnt /bin/bash $script
echo "guest-status \$?"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1 >"$root.gz")
trap 'rm -rf "$root" "$root.gz" "$root.out"' EXIT

timeout 400 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nographic -no-reboot \
    -kernel "$modules/boot/vmlinuz-$version" -initrd "$root.gz" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off" \
    -virtfs local,path=/,security_model=none,mount_tag=host,readonly=on \
    -netdev "tap,id=net,ifname=$tap,script=no,downscript=no" -device virtio-net-pci,netdev=net \
    </dev/null 2>&1 | stdbuf -o0 tr -d '\r' | tee "$root.out" || true
status=$(sed -n 's/^guest-status \([0-9]*\)$/\1/p' "$root.out" | tail -n 1)
exit "${status:-124}"
