"""The executor under test, and one node as a model: what the tests against ONNX Runtime share."""
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import onnx
from onnx import helper, numpy_helper

import judge


class Refused(Exception):
    """The program said that it cannot run the model."""


class Executor:
    """One run_models process. Its answer to a model that it cannot run is the exception Refused."""

    def __init__(self, binary):
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # In memory where there is such a folder: thousands of small files, each synced, are slow on a busy disk.
        memory = "/dev/shm"
        self.folder = tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.folder.cleanup()

    def run(self, model, feeds, fusion="full"):
        path, fed, out = (Path(self.folder.name) / name for name in ("model.onnx", "feeds.npz", "outputs.npz"))
        onnx.save(model, path)
        np.savez(fed, **feeds)
        self.process.stdin.write(f"{fusion}\t{path}\t{fed}\t{out}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"the program died (exit code {self.process.wait()})")
        if answer != "ok":
            raise Refused(answer.removeprefix("error "))
        return judge.read(out)


def onnx_runtime(model, feeds, optimization="none"):
    session = judge.load(model.SerializeToString(), optimization=optimization)
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds)))


@dataclass
class Case:
    """One node on given inputs (None: left out). `valid`, when given, cuts from each output the part that is defined."""
    operator: str
    inputs: list
    attributes: dict = field(default_factory=dict)
    outputs: tuple = (0,)  # which outputs are asked for
    constants: tuple = ()  # which inputs are initializers
    domain: str = "com.microsoft"
    opset: int = 21
    tolerance: float = 2e-5  # of the range of the expected output; 8-bit outputs: how many steps a rounding may differ
    valid: Optional[Callable] = None
    reference: Optional[Callable] = None  # outputs by index when ONNX Runtime has no kernel for the variant
    floats: tuple = ()  # outputs whose type ONNX Runtime wants declared: float32
    text: str = ""

    def describe(self):
        shapes = ", ".join("-" if x is None else f"{x.dtype}{list(x.shape)}" for x in self.inputs)
        return f"{self.operator}({shapes}) {self.attributes} constants {list(self.constants)} outputs {list(self.outputs)} {self.text}"

    def model(self):
        names = ["" if x is None else f"i{k}" for k, x in enumerate(self.inputs)]
        outputs = [f"o{k}" if k in self.outputs else "" for k in range(max(self.outputs) + 1)]
        node = helper.make_node(self.operator, names, outputs, domain=self.domain, name="node", **self.attributes)
        types = [helper.make_tensor_value_info(names[k], helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
                 for k, x in enumerate(self.inputs) if x is not None and k not in self.constants]
        stored = [numpy_helper.from_array(self.inputs[k], names[k]) for k in self.constants if k < len(self.inputs) and self.inputs[k] is not None]
        graph = helper.make_graph([node], "case", types, [onnx.ValueInfoProto(name=o) if k not in self.floats else helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None)
                                                           for k, o in enumerate(outputs) if o], stored)
        return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", self.opset),
                                                                      helper.make_opsetid("com.microsoft", 1)])

    def feeds(self):
        return {f"i{k}": x for k, x in enumerate(self.inputs) if x is not None and k not in self.constants}

    def expected(self):
        if self.reference:
            return {f"o{k}": value for k, value in self.reference().items()}
        return onnx_runtime(self.model(), self.feeds())


def difference(expected, actual, tolerance, least=1e-3):
    """What is wrong with `actual`; empty when nothing is. `least`: the range that smaller values are measured against."""
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return f"{actual.dtype}{list(actual.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if expected.size == 0 or np.array_equal(expected, actual, equal_nan=True):
        return ""
    if not np.issubdtype(expected.dtype, np.floating):
        steps = np.abs(expected.astype(np.int64) - actual.astype(np.int64))
        # A sum that lies between two steps may be rounded either way, and few sums do.
        few = (steps > 0).mean() <= 0.05 or (steps > 0).sum() <= 2
        return "" if tolerance >= 1 and steps.max() <= tolerance and few else f"{steps.max()} steps apart, {(steps > 0).sum()} of {steps.size}"
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)) or not np.array_equal(a[~np.isfinite(a)], b[~np.isfinite(a)], equal_nan=True):
        return "infinities or NaN at other places"
    a, b = a[np.isfinite(a)], b[np.isfinite(a)]
    apart = np.abs(a - b).max(initial=0)
    allowed = tolerance * max(np.abs(a).max(initial=0), least)
    return "" if apart <= allowed else f"{apart:.3g} apart, {allowed:.3g} allowed"
