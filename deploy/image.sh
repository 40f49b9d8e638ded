#!/bin/sh
# Builds the image NAME from an already built static binary, without the network, and sees that
# the binary runs in it and that nothing else is in it.
#
#   deploy/image.sh NAME [BINARY]
set -eu
cd "$(dirname "$0")/.."
name=$1
binary=${2:-${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-musl/release/seedwire}

fail() {
    echo "deploy/image.sh: $*" >&2
    exit 1
}
command -v buildah >/dev/null || fail "buildah is missing; Debian has it: apt-get install buildah"

context=$(mktemp -d "${TMPDIR:-/tmp}/seedwire-image.XXXXXX")
container=
trap 'rm -rf "$context"; [ -z "$container" ] || buildah rm "$container" >/dev/null' EXIT
install "$binary" "$context/seedwire"
buildah build --quiet --isolation chroot --target prebuilt -f Dockerfile -t "$name" "$context" >/dev/null

container=$(buildah from --pull-never "$name")
wanted=$("$binary" --version)
found=$(buildah run --isolation chroot "$container" -- /seedwire --version)
[ "$found" = "$wanted" ] || fail "the image's binary says '$found', not '$wanted'"
buildah push --quiet "$name" "dir:$context/image" >/dev/null
files=$(for blob in "$context"/image/*; do tar -tf "$blob" 2>/dev/null || true; done | grep -v '/$')
[ "$files" = seedwire ] || fail "the image holds more than the binary: $files"
echo "$name: one file, $found, runs"
