# Reads the rows, then the samples (PROGRAM, KEY, VALUE), and prints the table of medians: as a
# table of Markdown whose columns line up. `programs`: the columns, separated by commas.

BEGIN { count = split(programs, names, ",") }

/^#/ { next }

NR == FNR { keys[++rows] = $1; what[$1] = $2; goals[$1] = $3; next }

{ samples[$1, $2] = samples[$1, $2] " " $3; measured[$2] = 1; measured_of[$1] = 1 }

function median(text,    all, n, i, j, swap) {
    n = split(text, all, " ")
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && all[j] + 0 < all[j - 1] + 0; j--) {
            swap = all[j]; all[j] = all[j - 1]; all[j - 1] = swap
        }
    return n ? all[int((n + 1) / 2)] : ""
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

function head(    i) {
    line = sprintf("| %-46s |", "")
    for (i = 1; i <= count; i++) cell(names[i], wide(i))
    cell("ratio", 6); cell("goal", 7); cell("", 6)
    print line
    gsub(/[^|]/, "-", line)
    print line
}

function wide(i) { return length(names[i]) > 7 ? length(names[i]) : 7 }

function beside_head(title) {
    line = sprintf("| %-46s |", title)
    cell("ratio", 6); cell("goal", 7); cell("", 6)
    print "\n" line
    gsub(/[^|]/, "-", line)
    print line
}

# A row of the ratio of `of` to `to`.
function beside(of, to, key, goal,    mine, theirs, ratio) {
    mine = median(samples[of, key]); theirs = median(samples[to, key])
    if (mine == "" || !theirs) return
    ratio = mine / theirs
    line = sprintf("| %-46s |", what[key])
    cell(sprintf("%.2fx", ratio), 6); cell(goal, 7); cell(verdict(ratio, goal), 6)
    print line
}

END {
    head()
    for (row = 1; row <= rows; row++) {
        key = keys[row]
        if (!measured[key]) continue
        line = sprintf("| %-46s |", what[key])
        for (i = 1; i <= count; i++) cell(shown(median(samples[names[i], key])), wide(i))
        mine = median(samples["seedwire", key]); theirs = median(samples["wireguard-go", key])
        ratio = mine != "" && theirs > 0 ? mine / theirs : ""
        cell(ratio == "" ? "" : sprintf("%.2fx", ratio), 6)
        goal = goals[key]
        cell(goal, 7)
        cell(verdict(goal ~ /x$/ ? ratio : mine, goal), 6)
        print line
    }
    if (!measured_of["seedwire-no-offload"] || !measured_of["gotatun"]) exit
    beside_head("seedwire-no-offload to gotatun")
    beside("seedwire-no-offload", "gotatun", "tcp.rate", ">=1x")
    beside("seedwire-no-offload", "gotatun", "tcp.cpu", "<=1x")
    beside("seedwire-no-offload", "gotatun", "four.rate", ">=1x")
    beside("seedwire-no-offload", "gotatun", "four.cpu", "<=1x")
}
