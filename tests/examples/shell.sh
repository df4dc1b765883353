#!/usr/bin/env bash
# The shell sweep prints one line of numbers a sparsity, fewer bytes for more sparsity.
#
#   shell.sh SOURCE-FOLDER TCOMPRESS
set -euo pipefail
lines=$(TCOMPRESS=$2 "$1/examples/shell/sweep.sh" 0.25 0.5)
echo "$lines"
echo "$lines" | awk -F'\t' '
    NF != 3 || $3 <= 0 || $3 > 1 { print "bad line: " $0; bad = 1 }
    NR == 2 && $2 >= before { print "more sparsity did not mean fewer bytes"; bad = 1 }
    { before = $2 }
    END { exit bad || NR != 2 }'
