#!/usr/bin/env python3
"""Models as ONNX Runtime rewrites them (its optimizer at every level, its quantizer in both formats) give in the executor what
they give there, and those that only fuse or quantize weights are recognised as before. The operators that this brings in are
printed.

    test_onnxruntime_forms.py RUN_MODELS TCOMPRESS REPOSITORY
"""
import collections
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

import judge
from executor import Executor, Refused

LEVELS = {"basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
          "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL}
# 8-bit forms round: a value next to a step may take either, and the layers behind it follow.
EXACT, ROUNDED = 1e-4, 5e-2
UNTYPED = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # of values behind operators without a type rule in ONNX
# Static quantization in ONNX Runtime's own operators (QLinear…) is run, but attention in them is not recognised.
RECOGNISED = ("basic", "extended", "all", "dynamic", "dynamic_all", "QDQ")
FUSED = ("basic", "extended")
logging.disable(logging.WARNING)


class Samples(CalibrationDataReader):
    def __init__(self, feeds):
        self.left = [feeds]

    def get_next(self):
        return self.left.pop() if self.left else None


def optimized(path, target, level):
    options = ort.SessionOptions()
    options.graph_optimization_level, options.optimized_model_filepath = LEVELS[level], str(target)
    options.log_severity_level = 4
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def static(path, target, samples, how, per_channel):
    quantize_static(path, target, samples, quant_format=how, per_channel=per_channel, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
                    extra_options=UNTYPED)


def forms(path, feeds, folder):
    """(what it is, file, tolerance)."""
    for level in LEVELS:
        target = folder / f"{level}.onnx"
        optimized(path, target, level)
        yield f"optimized ({level})", target, EXACT
    target = folder / "dynamic.onnx"
    quantize_dynamic(path, target, per_channel=True, extra_options=UNTYPED)
    yield "dynamic int8", target, ROUNDED
    optimized(target, folder / "dynamic_all.onnx", "all")
    yield "dynamic int8, optimized", folder / "dynamic_all.onnx", ROUNDED
    for name, how in (("QDQ", QuantFormat.QDQ), ("QOperator", QuantFormat.QOperator)):
        target = folder / f"{name}.onnx"
        try:
            static(path, target, Samples(feeds), how, name == "QDQ")
        except Exception as error:  # it fails in many ways on what it does not expect
            print(f"{path.name}: ONNX Runtime's quantizer ({name}) gives up: {error}")
            continue
        yield f"static int8 ({name})", target, ROUNDED
        optimized(target, folder / f"{name}_all.onnx", "all")
        yield f"static int8 ({name}), optimized", folder / f"{name}_all.onnx", ROUNDED


def heads(path):
    """(heads, key/value heads, head size) of each attention layer that the program recognises."""
    told = subprocess.run([sys.argv[2], "inspect", path, "--json"], check=True, capture_output=True, text=True).stdout
    return [(layer["heads"], layer["kv_heads"], layer["head_size"]) for layer in json.loads(told)["attention"]]


def compressed(path, target, feeds):
    """Heads and neurons gone and 4-bit weights, which need another opset: the file must load and run in ONNX Runtime."""
    result = subprocess.run([sys.argv[2], "run", path, "-p", "remove-heads:ratio=0.5", "-p", "prune:structure=neuron,sparsity=0.5", "-p",
                             "quantize:method=weight-only,bits=4", "-o", target, "--quiet", "--no-latency"], capture_output=True, text=True)
    if result.returncode:
        return result.stderr[:300]
    # A key-value cache has as many heads as stay.
    session = judge.load(target, optimization="none")
    shapes = {i.name: [d if isinstance(d, int) else None for d in i.shape] for i in session.get_inputs()}
    cut = {name: array[tuple(slice(d) for d in shapes[name])] for name, array in feeds.items() if name in shapes}
    return "" if all(np.isfinite(value).all() for value in session.run(None, cut)) else "outputs that are not finite"


def main():
    root = Path(sys.argv[3])
    operators, ran, failed = collections.Counter(), 0, 0
    with Executor(sys.argv[1]) as executor, tempfile.TemporaryDirectory() as folder:
        for path in sorted((root / "tests/data/models").glob("*.onnx")):
            feeds_file = root / f"tests/data/exec/{path.stem}.feeds.npz"
            if not feeds_file.exists():
                continue
            feeds, original = judge.read(feeds_file), heads(path)
            for what, file, tolerance in forms(path, feeds, Path(folder)):
                model = onnx.load(file)
                if any(node.domain == "com.microsoft.nchwc" for node in model.graph.node):
                    print(f"{path.name}, {what}: in the layout of one machine's convolutions, not run")
                    continue
                operators.update(f"{node.domain or 'ai.onnx'}.{node.op_type}" for node in model.graph.node if node.domain not in ("", "ai.onnx"))
                session = judge.load(file, optimization="none")
                expected = dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds)))
                ran += 1
                try:
                    found = judge.differences(expected, executor.run(model, feeds))
                except Refused as refusal:
                    found = {str(refusal)[:300]: np.inf}
                if file.stem in FUSED and (problem := compressed(file, Path(folder) / "compressed.onnx", feeds)):
                    found[problem] = np.inf
                if file.stem in RECOGNISED and heads(file) != original:
                    found["recognised heads"] = np.inf
                if max(found.values()) > tolerance:
                    failed += 1
                    print(f"FAILED {path.name}, {what}: {found}")
    print("with " + ", ".join(f"{name} ({count})" for name, count in sorted(operators.items())))
    print(f"{ran} models, {failed} failed")
    return failed != 0 or ran == 0


if __name__ == "__main__":
    sys.exit(main())
