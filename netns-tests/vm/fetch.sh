#!/usr/bin/env bash
# fetch.sh: downloads Debian's kernel with its modules into the cache, once; nothing of it is installed.
set -euo pipefail
work=${SEEDWIRE_VM:-${XDG_CACHE_HOME:-$HOME/.cache}/seedwire/vm}
modules=$work/kernel

if [ ! -d "$modules/lib/modules" ]; then
    mkdir -p "$work"
    package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
    (cd "$work" && apt-get download --quiet=2 "$package" && dpkg-deb -x "$package"_*.deb kernel.new)
    depmod -b "$work/kernel.new" "$(ls "$work/kernel.new/lib/modules")"
    mv "$work/kernel.new" "$modules"
    rm -f "$work"/*.deb
fi
