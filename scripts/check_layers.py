#!/usr/bin/env python3
"""Checks that every #include points in an allowed direction: apps → passes → lib/pipeline → … → lib/support, kernels
without the IR, and each outside library in its one place. Exits 1 with one line per violation.

    check_layers.py [ROOT]
"""
import re
import sys
from pathlib import Path

# A layer may include itself, what is named here, and whatever those may include. Tests may include everything.
ARROWS = {
    "apps": ["passes"],
    "passes": ["lib/pipeline", "lib/train"],
    "lib/pipeline": ["lib/analysis", "lib/calibration", "lib/measure", "lib/report"],
    "lib/report": ["lib/measure"],
    "lib/measure": ["lib/exec", "lib/analysis", "lib/data"],
    "lib/calibration": ["lib/exec", "lib/data"],
    "lib/train": ["lib/exec"],
    "lib/exec": ["lib/ir", "kernels"],
    "lib/analysis": ["lib/ir"],
    "lib/data": ["lib/ir"],
    "lib/ir": ["lib/tensor"],
    "kernels": ["lib/tensor"],
    "lib/tensor": ["lib/support"],
    "lib/support": [],
}

# Outside headers and the files that may include them.
OUTSIDE = [
    (re.compile(r"(oneapi/)?dnnl"), re.compile(r"kernels/onednn/"), "oneDNN belongs in kernels/onednn"),
    (re.compile(r".*(lapacke?|cblas|f77blas|openblas_config)\.h"), re.compile(r"kernels/linalg"), "LAPACK belongs in kernels/linalg*"),
    (re.compile(r"CLI/"), re.compile(r"apps/"), "CLI11 belongs in apps"),
    (re.compile(r"nlohmann/json\.hpp"), re.compile(r".*\.cpp$"), "headers include nlohmann/json_fwd.hpp, sources json.hpp"),
    (re.compile(r"spdlog/"), re.compile(r"lib/support/log\."), "spdlog belongs behind lib/support/log.h"),
    (re.compile(r"onnx/|google/protobuf"), re.compile(r"(lib/(ir|exec|analysis|calibration|data|measure|report|pipeline|train)|passes|apps)/"),
     "ONNX and protobuf stay above lib/tensor and kernels"),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)


def reachable(layer):
    found, todo = set(), [layer]
    while todo:
        here = todo.pop()
        if here not in found:
            found.add(here)
            todo += ARROWS[here]
    return found


def layer_of(path):
    return next((layer for layer in ARROWS if path.startswith(layer + "/")), None)


def violations(path, text, allowed):
    own = layer_of(path)
    if own is None:
        yield f"{path}: belongs to no layer; add its folder to scripts/check_layers.py"
        return
    for match in INCLUDE.finditer(text):
        header, line = match.group(1), text.count("\n", 0, match.start(1)) + 1
        target = layer_of(header)
        if target is not None and target not in allowed[own]:
            yield f"{path}:{line}: {own} may not include {header}"
        for pattern, home, reason in OUTSIDE:
            if target is None and pattern.match(header) and not home.match(path):
                yield f"{path}:{line}: includes {header}; {reason}"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    allowed = {layer: reachable(layer) for layer in ARROWS}
    files = sorted(file for top in ("apps", "passes", "lib", "kernels") for file in (root / top).rglob("*")
                   if file.suffix in (".h", ".cpp"))
    if not files:
        sys.exit(f"check_layers: no sources under {root}")
    found = [problem for file in files
             for problem in violations(file.relative_to(root).as_posix(), file.read_text(), allowed)]
    print("\n".join(found + [f"check_layers: {len(files)} files, {len(found)} violations"]))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
