#!/bin/sh
# Fuzzes one target for so many seconds, then adds to its corpus what reaches code that nothing in
# it reached. An input that fails is left in fuzz/artifacts/TARGET.
#
#   scripts/fuzz.sh TARGET SECONDS
set -eu
cd "$(dirname "$0")/.."
target=$1 seconds=$2

# Instrumentation is an option of rustc that is not stable yet; this lets a stable one take it.
export RUSTC_BOOTSTRAP=1
export RUSTC_WRAPPER="$PWD/fuzz/rustc.sh"
# What is fuzzed has no unsafe code: AddressSanitizer would find nothing at half the speed.
fuzz() {
    cargo fuzz run --sanitizer none "$target" "$@"
}

# What is found on the way stays out of the repository.
found=fuzz/target/corpus/$target
kept=fuzz/corpus/$target
mkdir -p "$found" "$kept"
fuzz "$found" "$kept" -- -max_len=2048 -timeout=10 -max_total_time="$seconds" -print_final_stats=1
fuzz "$kept" "$found" -- -set_cover_merge=1 -use_counters=0
