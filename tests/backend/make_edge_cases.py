#!/usr/bin/env python3
"""Writes corner cases of the standard operators with ONNX Runtime's answers: NaN and infinities, casts out of range, tensors
without elements, scalars, broadcasting, every element type.

    make_edge_cases.py FOLDER
"""
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from case_files import write_case
from edge_tables import TABLES

OPSET = 21


def model_of(name, case, feeds, outputs):
    """With `outputs` None the outputs' types are left open, for ONNX Runtime to find."""
    def info(name, array):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    names = [f"y{i}" for i in range(case.outputs)]
    inputs = [f"x{i}" if x is not None else "" for i, x in enumerate(case.inputs)]
    node = helper.make_node(case.operator, inputs, names, **case.attributes)
    known = [info(n, y) for n, y in zip(names, outputs)] if outputs else [onnx.ValueInfoProto(name=n) for n in names]
    graph = helper.make_graph([node], name, [info(n, x) for n, x in feeds.items()], known)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset or OPSET)], ir_version=10)


def answer(model, feeds):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # As it stands: constant folding and fusion are not what is asked about.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def main():
    target = pathlib.Path(sys.argv[1])
    warnings.simplefilter("ignore", RuntimeWarning)
    count = 0
    for table in TABLES:
        for case in table():
            feeds = {f"x{i}": x for i, x in enumerate(case.inputs) if x is not None}
            try:
                outputs = answer(model_of(case.name, case, feeds, None), feeds)
            except Exception as error:
                raise SystemExit(f"{case.name}: ONNX Runtime refuses: {error}") from error
            write_case(target / case.name, model_of(case.name, case, feeds, outputs), [(list(feeds.values()), outputs)])
            count += 1
    print(f"{count} cases")


if __name__ == "__main__":
    main()
