#!/usr/bin/env bash
# Installs what tcompress is built with, on a Debian 12 that has only git, g++ and python3 (as root, or with sudo).
# Debian's packages where they are recent enough; ONNX, oneDNN and OpenBLAS once into a cache folder named by the hash of
# scripts/dependencies.lock, to which build/deps then points. A second run, or a second checkout, finds it all made.
#
#   setup.sh [--print-prefix]        TCOMPRESS_CACHE=FOLDER puts the cache elsewhere (default ~/.cache/tcompress)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

deps=$cache/deps
log=$cache/setup.log

satisfied() {  # PACKAGE MINIMUM CHECK
    case $3 in
        cmd:*) command -v "${3#cmd:}" >/dev/null && return ;;
        py:*) python3 -c "import ${3#py:}" 2>/dev/null && return ;;
    esac
    local installed
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Version}' "$1" 2>/dev/null) || return 1
    [ "${installed%% *}" = installed ] || return 1
    installed=${installed#* }
    dpkg --compare-versions "${installed#*:}" ge "$2"
}

install_debian_packages() {
    local missing=() name version check
    while read -r name version check; do
        satisfied "$name" "$version" "$check" && continue
        # Maven only fetches oneDNN: with the libraries made already it is not worth a Java installation.
        [ "$name" = maven ] && [ -e "$deps/complete" ] && continue
        missing+=("$name")
    done < <(locked apt)
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || die "these Debian packages are missing and there is no apt-get: ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "not root and no sudo; install these first: ${missing[*]}"
        as_root=(sudo)
    fi
    logged "updating Debian's package lists" "$log" "${as_root[@]}" apt-get update
    logged "installing Debian packages: ${missing[*]}" "$log" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${missing[@]}"
}

unpack() { python3 -m zipfile -e "$1" "$2"; }

make_onednn() {  # WORK PREFIX
    local name version checksum
    read -r name version checksum < <(locked maven)
    # 2.8 fetches the one file asked for; newer plugins also want its parent descriptors, which not every mirror has.
    logged "fetching oneDNN (Maven, 28 MB)" "$log" mvn --batch-mode --no-transfer-progress \
        org.apache.maven.plugins:maven-dependency-plugin:2.8:copy -Dartifact="$name:$version" -DoutputDirectory="$1/maven"
    local jar
    jar=$(echo "$1"/maven/*.jar)
    verify "$jar" "$checksum"
    unpack "$jar" "$1/onednn"
    local root=$1/onednn/org/bytedeco/dnnl/linux-x86_64
    mkdir -p "$2/lib/cmake" "$2/include"
    # oneDNN's CMake files name the library by its full version; the archive has it under the short one.
    python3 "$repo/scripts/bind_symbols.py" "$root/libdnnl.so.3" "$2/lib/libdnnl.so.3.13" >>"$log"
    chmod 755 "$2/lib/libdnnl.so.3.13"
    ln -s libdnnl.so.3.13 "$2/lib/libdnnl.so.3"
    ln -s libdnnl.so.3 "$2/lib/libdnnl.so"
    cp -r "$root/lib/cmake/dnnl" "$2/lib/cmake/"
    cp -r "$root"/include/* "$2/include/"
}

make_openblas() {  # WORK PREFIX
    say "fetching OpenBLAS (PyPI, 9 MB)"
    mkdir -p "$1/openblas" "$2/include/openblas"
    wheels wheel "$1/openblas"
    unpack "$(echo "$1"/openblas/scipy_openblas32-*.whl)" "$1/openblas"
    cp "$1"/openblas/scipy_openblas32/lib/*.so* "$2/lib/"
    cp "$1"/openblas/scipy_openblas32/include/*.h "$2/include/openblas/"
}

make_onnx() {  # WORK PREFIX
    local name version checksum archive
    read -r name version checksum < <(locked source)
    mkdir -p "$1/tools" "$1/source"
    say "fetching CMake for ONNX's build (PyPI, 28 MB)"
    wheels tool "$1/tools"
    unpack "$(echo "$1"/tools/cmake-*.whl)" "$1/tools"
    chmod +x "$1"/tools/cmake/data/bin/*
    local cmake=$1/tools/cmake/data/bin/cmake
    logged "fetching ONNX $version (PyPI source archive, 6 MB)" "$log" "$(locked_python)" -m pip \
        --disable-pip-version-check download --no-deps --no-binary "$name" --dest "$1/source" "$name==$version"
    archive=$1/source/$name-$version.tar.gz
    verify "$archive" "$checksum"
    tar -xzf "$archive" -C "$1/source"
    local options=(-DCMAKE_BUILD_TYPE=Release -DONNX_USE_PROTOBUF_SHARED_LIBS=ON -DONNX_ML=1 -DBUILD_SHARED_LIBS=OFF
        -DONNX_BUILD_PYTHON=OFF -DONNX_BUILD_TESTS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCMAKE_CXX_STANDARD=17
        -DPython3_EXECUTABLE="$(locked_python)" -DCMAKE_INSTALL_PREFIX="$2")
    command -v ccache >/dev/null && options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    logged "configuring ONNX" "$log" "$cmake" -G Ninja -S "$1/source/$name-$version" -B "$1/onnx" "${options[@]}"
    logged "compiling ONNX (about 4 minutes on 2 cores)" "$log" "$cmake" --build "$1/onnx" -j "$(nproc)"
    logged "installing ONNX into the cache" "$log" "$cmake" --install "$1/onnx"
}

make_dependencies() {
    [ -e "$deps/complete" ] && return
    local work=$cache/deps.work partial=$cache/deps.partial
    # What is here was left by a set-up that was killed: the lock is ours.
    rm -rf "$deps" "$work" "$partial"
    mkdir -p "$work" "$partial"
    make_onednn "$work" "$partial"
    make_openblas "$work" "$partial"
    make_onnx "$work" "$partial"
    ! grep -rqF "$partial" "$partial/lib/cmake" || die "the CMake files of a dependency name the folder they were built in"
    touch "$partial/complete"
    mv "$partial" "$deps"
    rm -rf "$work"
}

link_dependencies() {
    mkdir -p "$repo/build"
    [ "$(readlink "$repo/build/deps" || true)" = "$deps" ] && return
    ln -sfn "$deps" "$repo/build/deps"
    say "build/deps → $deps"
}

if [ "${1:-}" = --print-prefix ]; then
    echo "$deps"
    exit
fi
take_lock
install_debian_packages
make_pip
make_dependencies
link_dependencies
say "dependencies are ready in $deps"
