# Reads the rows, then the samples (PROGRAM, KEY, VALUE), and prints the table of medians: as a
# table of Markdown whose columns line up. `programs`: the columns, separated by commas.
#
# A row is KEY, WHAT and GOAL, the program that the ratio is to (`reference` by default; `best`: the
# best of all but the echo server; `-`: none), and the program of which it is (seedwire by default).
# A goal that ends in x is one for the ratio. Rows after the first of a key only show another goal.

BEGIN { count = split(programs, names, ",") }

/^#/ { next }

NR == FNR {
    keys[++rows] = $1; what[rows] = $2; goals[rows] = $3
    to[rows] = $4 == "" ? reference : $4
    of[rows] = $5 == "" ? "seedwire" : $5
    next
}

{ samples[$1, $2] = samples[$1, $2] " " $3; measured[$2] = 1 }

function median(text,    all, n, i, j, swap) {
    n = split(text, all, " ")
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && all[j] + 0 < all[j - 1] + 0; j--) {
            swap = all[j]; all[j] = all[j - 1]; all[j - 1] = swap
        }
    return n ? all[int((n + 1) / 2)] : ""
}

function of_program(name, key) { return median(samples[name, key]) }

function is_better(value, than, goal) {
    return goal ~ /^>=/ ? value + 0 > than + 0 : value + 0 < than + 0
}

# What the program is compared to.
function compared(name, key, goal,    i, value, best) {
    if (name != "best") return of_program(name, key)
    for (i = 1; i <= count; i++) {
        if (names[i] == "echo" || names[i] ~ /^seedwire/) continue
        value = of_program(names[i], key)
        if (value != "" && (best == "" || is_better(value, best, goal))) best = value
    }
    return best
}

function shown(value) {
    if (value == "") return "-"
    if (value >= 100 || value == 0) return sprintf("%d", value + 0.5)
    return sprintf(value >= 10 ? "%.1f" : "%.2f", value)
}

function verdict(value, goal) {
    if (value == "" || goal == "") return ""
    if (goal ~ /^>=/) return value >= substr(goal, 3) + 0 ? "met" : "missed"
    return value <= substr(goal, 3) + 0 ? "met" : "missed"
}

function cell(text, width) {
    line = line sprintf(" %" width "s |", text)
}

function wide(i) { return length(names[i]) > 7 ? length(names[i]) : 7 }

function head(    i) {
    line = sprintf("| %-46s |", "")
    for (i = 1; i <= count; i++) cell(names[i], wide(i))
    cell("ratio", 6); cell("goal", 7); cell("", 6)
    print line
    gsub(/[^|]/, "-", line)
    print line
}

function print_row(row,    key, goal, mine, theirs, ratio, i) {
    key = keys[row]; goal = goals[row]
    mine = of_program(of[row], key); theirs = compared(to[row], key, goal)
    ratio = mine != "" && theirs > 0 ? mine / theirs : ""
    if (told[key]++ && (goal !~ /x$/ || ratio == "")) return
    line = sprintf("| %-46s |", what[row])
    for (i = 1; i <= count; i++)
        cell(told[key] > 1 ? "" : shown(of_program(names[i], key)), wide(i))
    cell(ratio == "" ? "" : sprintf("%.2fx", ratio), 6)
    cell(goal, 7)
    cell(verdict(goal ~ /x$/ ? ratio : mine, goal), 6)
    print line
}

END {
    head()
    for (row = 1; row <= rows; row++)
        if (measured[keys[row]]) print_row(row)
}
