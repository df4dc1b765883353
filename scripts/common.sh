# Shared by the scripts of this folder (sourced, not run): the lock file, the cache folder, progress lines.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Another checkout of the same sources compiles from the cache.
export CCACHE_BASEDIR=$repo CCACHE_NOHASHDIR=1
lock_file=$repo/scripts/dependencies.lock
cache_root=${TCOMPRESS_CACHE:-$HOME/.cache/tcompress}
cache=$cache_root/$(sha256sum "$lock_file" | cut -c1-16)
me=$(basename "$0" .sh)

say() { printf '%s: [%4d s] %s\n' "$me" "$SECONDS" "$*" >&2; }
die() { printf '%s: error: %s\n' "$me" "$*" >&2; exit 1; }

# locked KIND: the rows of that kind in $lock_file as "name version check".
locked() { awk -v kind="$1" '$1 == kind { print $2, $3, $4 }' "$lock_file"; }

verify() {  # FILE SHA256
    local actual
    actual=$(sha256sum "$1" | cut -d' ' -f1)
    [ "$actual" = "$2" ] || die "checksum of $(basename "$1") is $actual, the lock file wants $2; remove it and try again"
}

# Ctrl-C does not reach what runs in the background: it is ended here.
running=
trap '[ -z "$running" ] || kill "$running" 2>/dev/null' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# logged TITLE LOG COMMAND…: output goes to the log; a line every 20 s shows that it lives; a failure shows the log's end.
logged() {
    local title=$1 log=$2 start=$SECONDS beat=0
    shift 2
    say "$title"
    "$@" >"$log" 2>&1 </dev/null &
    running=$!
    while kill -0 "$running" 2>/dev/null; do
        sleep 0.2
        beat=$((beat + 1))
        if [ $((beat % 100)) -eq 0 ]; then
            say "  … $((SECONDS - start)) s: $(tail -n 1 "$log" | tail -c 300 | tr '\r' '\n' | tail -n 1 | cut -c1-90)"
        fi
    done
    if ! wait "$running"; then
        running=
        tail -n 40 "$log" >&2
        die "failed: $title (the end of its output is above)"
    fi
    running=
}

# wheels KIND FOLDER: downloads the locked wheels of that kind; pip checks the hashes.
wheels() {
    local requirements=$2/requirements-$1.txt
    locked "$1" | awk '{ print $1 "==" $2 " --hash=sha256:" $3 }' >"$requirements"
    "$(locked_python)" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: \
        --require-hashes --dest "$2" --requirement "$requirements"
}

# A Python with pip. Debian's own python3 has none, so a small virtual environment in the cache provides it.
locked_python() { echo "$cache/pip/bin/python"; }

make_pip() {
    [ -x "$(locked_python)" ] && "$(locked_python)" -m pip --version >/dev/null 2>&1 && return
    command -v python3 >/dev/null || die "python3 is missing; install it (apt-get install python3)"
    rm -rf "$cache/pip"
    python3 -m venv "$cache/pip" || die "python3 cannot make a virtual environment; install python3-venv"
}

# One set-up at a time: a second one waits here until the first is done, then finds everything made.
take_lock() {
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    if ! flock --nonblock 9; then
        say "waiting for another set-up that is using $cache"
        flock 9
    fi
}

# The test-time Python environment: ONNX Runtime and ONNX as judges. Never part of the product.
judge_python() { echo "$cache/judge/bin/python"; }

make_judge() {
    [ -x "$(judge_python)" ] && return
    local partial=$cache/judge.partial version
    version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ "$version" = 3.11 ] || die "the locked test packages are for Python 3.11 (Debian 12's); python3 is $version"
    rm -rf "$partial"
    python3 -m venv "$partial" || die "python3 cannot make a virtual environment; install python3-venv"
    locked judge | awk '{ print $1 "==" $2 " --hash=sha256:" $3 }' >"$partial/requirements.txt"
    logged "installing ONNX Runtime and ONNX as test judges (PyPI, 50 MB)" "$cache/judge.log" "$partial/bin/python" -m pip \
        --disable-pip-version-check install --no-deps --only-binary :all: --require-hashes \
        --requirement "$partial/requirements.txt"
    mv "$partial" "$cache/judge"
}
