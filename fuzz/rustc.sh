#!/bin/sh
# rustc for cargo-fuzz (RUSTC_WRAPPER): only our own code counts as coverage. Comparisons are
# traced everywhere, so that what the other reader of a message looks for is found too.
name= previous=
for argument; do
    [ "$previous" = --crate-name ] && name=$argument
    previous=$argument
done
case $name in
seedwire*) exec "$@" ;;
esac
for argument; do
    shift
    case $argument in
    *-sanitizer-coverage-inline-8bit-counters* | *-sanitizer-coverage-pc-table*) ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec "$@"
