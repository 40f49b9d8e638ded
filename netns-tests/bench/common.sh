# What both benches share. Sourced by tunnel.sh and dns.sh.
# shellcheck shell=bash

# Keeps one sample: of $program, the figure KEY of the table is VALUE.
tell() { # KEY VALUE
    printf '%s\t%s\t%s\n' "$program" "$1" "$2" >>"$work/samples"
    printf '%s, %s: %s %s\n' "$turn" "$program" "$1" "$2" >&2
}

# Computes; awk's grammar.
calc() { # EXPRESSION
    awk "BEGIN {print ($1)}"
}

median() {
    sort -g | awk '{all[NR] = $1} END {if (NR) print all[int((NR + 1) / 2)]}'
}

# The table of all samples; REFERENCE is the program that a goal is compared to where a row names
# none.
table() { # ROWS REFERENCE PROGRAM...
    local what=$1 reference=$2 names
    shift 2
    names=$(IFS=,; echo "$*")
    printf 'seconds: %s; rounds: %s; processors: %s; kernel: %s\n\n' "$seconds" "$rounds" "$(nproc)" "$(uname -r)"
    touch "$work/samples"
    awk -F '\t' -v programs="$names" -v reference="$reference" -f "$bench/table.awk" "$what" "$work/samples"
}
