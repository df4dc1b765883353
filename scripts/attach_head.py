#!/usr/bin/env python3
"""Turns a sentence encoder into a classifier: logits = pooled · W + b replaces the model's outputs.

    attach_head.py ENCODER.onnx HEAD.npz OUT.onnx [--pooled NAME]
"""
import argparse
import os

import numpy as np
import onnx
from onnx import helper, numpy_helper


def attach(model, weight, bias, pooled):
    graph = model.graph
    if pooled not in {output.name for output in graph.output}:
        raise SystemExit(f"attach_head: the model has no output '{pooled}'")
    graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), "classifier.weight"))
    graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), "classifier.bias"))
    graph.node.append(helper.make_node("Gemm", [pooled, "classifier.weight", "classifier.bias"], ["logits"],
                                       name="/classifier/Gemm"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", weight.shape[1]]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("head")
    parser.add_argument("target")
    parser.add_argument("--pooled", default="461", help="output with the mean-pooled token states")
    arguments = parser.parse_args()
    model, head = onnx.load(arguments.encoder), np.load(arguments.head)
    attach(model, head["W"], head["b"], arguments.pooled)
    partial = arguments.target + ".partial"
    onnx.save(model, partial)
    os.replace(partial, arguments.target)


if __name__ == "__main__":
    main()
