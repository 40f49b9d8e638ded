#!/bin/sh
# Runs `cargo deny check WHAT...` with the cargo-deny on the PATH, or else one that is built once
# into the cache that scripts/peers.sh uses.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2
cache=${SEEDWIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seedwire}
PATH=$PATH:$cache/bin
if ! command -v cargo-deny >/dev/null; then
    echo "building cargo-deny $version (once, into $cache/bin; takes some minutes)"
    cargo install --quiet --locked "cargo-deny@$version" --root "$cache" --target-dir "$cache/build"
    rm -rf "$cache/build"
fi
exec cargo-deny --log-level error check "$@"
