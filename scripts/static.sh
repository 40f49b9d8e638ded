#!/bin/sh
# Builds the static release binary and prints where it is and how large. The machine's own gcc
# compiles ring for musl as well; only its glibc-specific fortification has to be off.
set -eu
cd "$(dirname "$0")/.."
target=$(uname -m)-unknown-linux-musl
scripts/need.sh target "$target"
variable=$(echo "$target" | tr - _)
export "CC_$variable=${CC:-gcc}" "CFLAGS_$variable=-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0"
cargo build --release --quiet --target "$target"
binary=${CARGO_TARGET_DIR:-target}/$target/release/seedwire
echo "$binary: $(stat -c %s "$binary") bytes, static, stripped"
