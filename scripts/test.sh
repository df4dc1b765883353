#!/usr/bin/env bash
# Builds tcompress and runs all the tests; what CI runs.
#
#   test.sh [CTEST-OPTION…]      for example: test.sh -R '^kernels'
#   TCOMPRESS_PRESET=debug|tsan  another preset than release
#   TCOMPRESS_ZOO=FOLDER         real models for the slow tests (default: fetched by fetch_zoo.sh)
#   TCOMPRESS_ONNX_CASES=FOLDER  operator cases (default: fetched by fetch_cases.sh)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

preset=${TCOMPRESS_PRESET:-release}
cd "$repo"

scripts/setup.sh
(
    take_lock
    make_judge
)
TCOMPRESS_ZOO=${TCOMPRESS_ZOO:-$(scripts/fetch_zoo.sh)}
TCOMPRESS_ONNX_CASES=${TCOMPRESS_ONNX_CASES:-$(scripts/fetch_cases.sh)}
TCOMPRESS_PYTHON=$(judge_python)
export TCOMPRESS_ZOO TCOMPRESS_ONNX_CASES TCOMPRESS_PYTHON

say "configuring and building ($preset)"
cmake --preset "$preset"
cmake --build --preset "$preset" -j "$(nproc)"
say "running the tests"
ctest --preset "$preset" -j "$(nproc)" --output-on-failure --no-tests=error "$@"
say "done"
