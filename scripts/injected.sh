#!/bin/sh
# Checks what `seedwire inject` makes of the manifests of its tests against the Kubernetes API types.
set -eu
cd "$(dirname "$0")/.."
seedwire=$PWD/${CARGO_TARGET_DIR:-target}/debug/seedwire
case ${CARGO_TARGET_DIR:-} in /*) seedwire=$CARGO_TARGET_DIR/debug/seedwire ;; esac
out=$(mktemp -d "${TMPDIR:-/tmp}/seedwire-injected.XXXXXX")
trap 'rm -rf "$out"' EXIT
for file in tests/it/inject/*.yaml; do
    "$seedwire" inject "$file" >"$out/ports-$(basename "$file")"
done
"$seedwire" inject --mode dns --cluster-dns 10.96.0.10 tests/it/inject/daemonset.yaml >"$out/dns.yaml"
cd deploy/validate
go run . "$out"/*.yaml
