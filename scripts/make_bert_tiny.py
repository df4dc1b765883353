#!/usr/bin/env python3
"""Writes a two-layer BERT with seeded random weights, spelled as PyTorch's TorchScript exporter spells one.

What makes the exporter's graphs awkward for a tool is kept: linears are MatMul + Add with weights under generated
names, Reshape targets are computed (Shape, Gather, Unsqueeze, Concat), erf-GELU is five nodes, small constants are
Constant nodes, batch and sequence are dynamic and there is no value_info.

    make_bert_tiny.py OUT.onnx
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS, HIDDEN, HEADS, FFN, VOCAB, POSITIONS, CLASSES = 2, 32, 4, 64, 100, 64, 3
HEAD = HIDDEN // HEADS


class Builder:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.used = [], [], {}

    def weight(self, name, array):
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def random(self, name, *shape, scale=0.2, mean=0.0):
        return self.weight(name, mean + scale * self.rng.standard_normal(shape))

    def node(self, op, scope, *inputs, **attributes):
        count = self.used.get((scope, op), 0)
        self.used[(scope, op)] = count + 1
        name = f"{scope}/{op}" + (f"_{count}" if count else "")
        self.nodes.append(helper.make_node(op, list(inputs), [name + "_output_0"], name=name, **attributes))
        return name + "_output_0"

    def constant(self, scope, value, dtype):
        return self.node("Constant", scope, value=numpy_helper.from_array(np.array(value, dtype)))

    def linear(self, scope, key, x, rows, columns):
        weight = self.random(f"onnx::MatMul_{500 + len(self.weights)}", rows, columns, scale=1.5 / np.sqrt(rows))
        bias = self.random(key + ".bias", columns, scale=0.1)
        return self.node("Add", scope, bias, self.node("MatMul", scope, x, weight))

    def norm(self, scope, key, x):
        weight = self.random(key + ".weight", HIDDEN, mean=1.0)
        bias = self.random(key + ".bias", HIDDEN, scale=0.1)
        return self.node("LayerNormalization", scope, x, weight, bias, axis=-1, epsilon=1e-12)

    def size(self, scope, x, axis):
        dim = self.node("Gather", scope, self.node("Shape", scope, x), self.constant(scope, axis, np.int64), axis=0)
        return self.node("Unsqueeze", scope, dim, self.constant(scope, [0], np.int64))

    def reshape(self, scope, x, *tail):
        parts = [self.size(scope, x, 0), self.size(scope, x, 1)]
        parts += [self.constant(scope, [value], np.int64) for value in tail]
        return self.node("Reshape", scope, x, self.node("Concat", scope, *parts, axis=0), allowzero=0)


def embeddings(b):
    scope, key = "/bert/embeddings", "bert.embeddings"
    b.weights.append(numpy_helper.from_array(np.arange(POSITIONS, dtype=np.int64)[None, :], key + ".position_ids"))
    ends = b.size(scope, "input_ids", 1)
    positions = b.node("Slice", scope, key + ".position_ids", b.constant(scope, [0], np.int64), ends,
                       b.constant(scope, [1], np.int64), b.constant(scope, [1], np.int64))
    words = b.node("Gather", scope + "/word_embeddings", b.random(key + ".word_embeddings.weight", VOCAB, HIDDEN),
                   "input_ids")
    types = b.node("Gather", scope + "/token_type_embeddings", b.random(key + ".token_type_embeddings.weight", 2, HIDDEN),
                   "token_type_ids")
    x = b.node("Add", scope, words, types)
    table = b.random(key + ".position_embeddings.weight", POSITIONS, HIDDEN)
    x = b.node("Add", scope, x, b.node("Gather", scope + "/position_embeddings", table, positions))
    return b.norm(scope + "/LayerNorm", key + ".LayerNorm", x)


def additive_mask(b):
    scope = "/bert"
    mask = b.node("Unsqueeze", scope, "attention_mask", b.constant(scope, [1], np.int64))
    mask = b.node("Unsqueeze", scope, mask, b.constant(scope, [2], np.int64))
    mask = b.node("Cast", scope, mask, to=TensorProto.FLOAT)
    inverted = b.node("Sub", scope, b.constant(scope, 1.0, np.float32), mask)
    return b.node("Mul", scope, inverted, b.constant(scope, np.finfo(np.float32).min, np.float32))


def attention(b, scope, key, x, mask):
    own = scope + "/self"
    query = b.linear(own + "/query", key + ".self.query", x, HIDDEN, HIDDEN)
    k = b.reshape(own, b.linear(own + "/key", key + ".self.key", x, HIDDEN, HIDDEN), HEADS, HEAD)
    v = b.reshape(own, b.linear(own + "/value", key + ".self.value", x, HIDDEN, HIDDEN), HEADS, HEAD)
    v = b.node("Transpose", own, v, perm=[0, 2, 1, 3])
    q = b.node("Transpose", own, b.reshape(own, query, HEADS, HEAD), perm=[0, 2, 1, 3])
    k = b.node("Transpose", own, k, perm=[0, 2, 3, 1])
    scores = b.node("Div", own, b.node("MatMul", own, q, k), b.constant(own, np.sqrt(HEAD), np.float32))
    scores = b.node("Softmax", own, b.node("Add", own, scores, mask), axis=-1)
    context = b.node("Transpose", own, b.node("MatMul", own, scores, v), perm=[0, 2, 1, 3])
    out = b.linear(scope + "/output/dense", key + ".output.dense", b.reshape(own, context, HIDDEN), HIDDEN, HIDDEN)
    return b.norm(scope + "/output/LayerNorm", key + ".output.LayerNorm", b.node("Add", scope + "/output", out, x))


def gelu(b, scope, x):
    erf = b.node("Erf", scope, b.node("Div", scope, x, b.constant(scope, np.sqrt(2.0), np.float32)))
    product = b.node("Mul", scope, x, b.node("Add", scope, erf, b.constant(scope, 1.0, np.float32)))
    return b.node("Mul", scope, product, b.constant(scope, 0.5, np.float32))


def feed_forward(b, scope, key, x):
    up = b.linear(scope + "/intermediate/dense", key + ".intermediate.dense", x, HIDDEN, FFN)
    up = gelu(b, scope + "/intermediate/intermediate_act_fn", up)
    down = b.linear(scope + "/output/dense", key + ".output.dense", up, FFN, HIDDEN)
    return b.norm(scope + "/output/LayerNorm", key + ".output.LayerNorm", b.node("Add", scope + "/output", down, x))


def classifier(b, x):
    mask = b.node("Unsqueeze", "", "attention_mask", b.constant("", [-1], np.int64))
    mask = b.node("Cast", "", mask, to=TensorProto.FLOAT)
    axes = b.constant("", [1], np.int64)
    total = b.node("ReduceSum", "", b.node("Mul", "", x, mask), axes, keepdims=0)
    count = b.node("Clip", "", b.node("ReduceSum", "", mask, axes, keepdims=0), b.constant("", 1e-9, np.float32))
    weight, bias = b.random("classifier.weight", CLASSES, HIDDEN), b.random("classifier.bias", CLASSES, scale=0.1)
    pooled = b.node("Div", "", total, count)
    b.nodes.append(helper.make_node("Gemm", [pooled, weight, bias], ["logits"], name="/classifier/Gemm", transB=1))


def build():
    b = Builder(seed=20)
    mask = additive_mask(b)
    x = embeddings(b)
    for layer in range(LAYERS):
        scope, key = f"/bert/encoder/layer.{layer}", f"bert.encoder.layer.{layer}"
        x = attention(b, scope + "/attention", key + ".attention", x, mask)
        x = feed_forward(b, scope, key, x)
    b.nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"], name="/Identity"))
    classifier(b, x)
    tokens = ["batch", "sequence"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, tokens)
              for name in ("input_ids", "attention_mask", "token_type_ids")]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, tokens + [HIDDEN]),
               helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])]
    graph = helper.make_graph(b.nodes, "main_graph", inputs, outputs, b.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tcompress-tests")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    onnx.save(build(), sys.argv[1])
