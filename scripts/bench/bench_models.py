"""The models that forward.py measures beside the real ones: quantized variants of a real model, single layers with
weight-only quantization, and a BERT of any size with random weights. Each is made into a given folder."""
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_dynamic,
                                      quantize_static)

OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]


def feeds_for(path, batch, length, seed=0):
    """Random inputs of a model: token ids, masks of ones, empty caches."""
    random, feeds = np.random.default_rng(seed), {}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for spec in ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).get_inputs():
        past = spec.name.startswith("past")
        shape = [d if isinstance(d, int) else batch if i == 0 else 0 if past else length for i, d in enumerate(spec.shape)]
        if "int" in spec.type:
            fill = (np.ones(shape) if "mask" in spec.name else np.zeros(shape) if "type" in spec.name
                    else np.arange(length) + np.zeros(shape) if "position" in spec.name else random.integers(1, 90, shape))
            feeds[spec.name] = fill.astype(np.int64 if "64" in spec.type else np.int32)
        else:
            feeds[spec.name] = random.standard_normal(shape).astype(np.float32)
    return feeds


class _Samples(CalibrationDataReader):
    def __init__(self, path):
        self.left = [feeds_for(path, 2, 64, seed) for seed in range(8)]

    def get_next(self):
        return self.left.pop() if self.left else None


def dynamic_int8(source, folder):
    logging.disable(logging.WARNING)
    target = Path(folder) / (Path(source).stem + ".dynamic.onnx")
    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
    return target


def static_int8(source, folder):
    logging.disable(logging.WARNING)
    shaped, target = Path(folder) / "shaped.onnx", Path(folder) / (Path(source).stem + ".qdq.onnx")
    quant_pre_process(source, shaped, skip_symbolic_shape=True)
    quantize_static(shaped, target, _Samples(source), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gather"])
    return target


def _save(nodes, inputs, outputs, initializers, target):
    graph = helper.make_graph(nodes, "bench", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=10)
    onnx.save(model, target, save_as_external_data=target.stem == "bert", location=target.stem + ".data")
    return target


def weight_only(bits, form, folder, size=4096, block=32):
    """x · W with W[size, size] in `bits` bits and blocks of `block` rows: form "nbits" (MatMulNBits) or "blocked"
    (DequantizeLinear with blocks, then MatMul)."""
    random = np.random.default_rng(bits)
    codes = random.integers(0, 2**bits, (size, size), dtype=np.uint8)  # [N, K]
    scales = (random.random((size, size // block), dtype=np.float32) + 0.5) * 0.01
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size]) for name in "xy")
    if form == "nbits":
        packed = codes if bits == 8 else codes[:, ::2] | codes[:, 1::2] << 4
        node = helper.make_node("MatMulNBits", ["x", "w", "scales"], ["y"], domain="com.microsoft", K=size, N=size, bits=bits,
                                block_size=block)
        nodes, constants = [node], [numpy_helper.from_array(packed.reshape(size, size // block, -1), "w"),
                                    numpy_helper.from_array(scales, "scales")]
    else:
        rows = codes.T.astype(np.int16) - 2**(bits - 1)  # [K, N], signed
        raw = rows.astype(np.int8).tobytes()
        if bits == 4:
            flat = (rows & 15).astype(np.uint8).reshape(-1)
            raw = (flat[::2] | flat[1::2] << 4).tobytes()
        kind = TensorProto.INT4 if bits == 4 else TensorProto.INT8
        nodes = [helper.make_node("DequantizeLinear", ["w", "scales"], ["wide"], axis=0, block_size=block),
                 helper.make_node("MatMul", ["x", "wide"], ["y"])]
        constants = [helper.make_tensor("w", kind, [size, size], raw, raw=True),
                     numpy_helper.from_array(np.ascontiguousarray(scales.T), "scales")]
    return _save(nodes, [x], [y], constants, Path(folder) / f"{form}{bits}.onnx")


def bert(folder, layers=24, width=1024, heads=16, inner=4096, vocabulary=1000):
    """BERT as PyTorch exports it (erf GELU spelled out, post-norm), random weights, embeddings of a small vocabulary."""
    random, nodes, constants, names = np.random.default_rng(0), [], [], iter(range(10**6))

    def constant(array):
        constants.append(numpy_helper.from_array(array, f"c{next(names)}"))
        return constants[-1].name

    def node(kind, *inputs, **attributes):
        nodes.append(helper.make_node(kind, list(inputs), [f"v{next(names)}"], **attributes))
        return nodes[-1].output[0]

    def weights(*shape, scale=0.02):
        return constant(random.standard_normal(shape, dtype=np.float32) * np.float32(scale))

    def linear(x, k, n):
        return node("Add", node("MatMul", x, weights(k, n)), weights(n))

    def norm(x):
        return node("LayerNormalization", x, constant(np.ones(width, np.float32)), constant(np.zeros(width, np.float32)))

    split, join = constant(np.array([0, 0, heads, width // heads])), constant(np.array([0, 0, width]))
    root, one, half = (constant(np.float32(v)) for v in (2**0.5, 1, 0.5))
    scale = constant(np.float32((width / heads)**-0.5))
    x = norm(node("Gather", weights(vocabulary, width), "input_ids"))
    for _ in range(layers):
        q, k, v = (node("Reshape", linear(x, width, width), split) for _ in range(3))
        scores = node("MatMul", node("Transpose", q, perm=[0, 2, 1, 3]), node("Transpose", k, perm=[0, 2, 3, 1]))
        seen = node("MatMul", node("Softmax", node("Mul", scores, scale), axis=-1), node("Transpose", v, perm=[0, 2, 1, 3]))
        x = norm(node("Add", linear(node("Reshape", node("Transpose", seen, perm=[0, 2, 1, 3]), join), width, width), x))
        h = linear(x, width, inner)
        h = node("Mul", node("Mul", h, node("Add", node("Erf", node("Div", h, root)), one)), half)
        x = norm(node("Add", linear(h, inner, width), x))
    nodes[-1].output[0] = "states"
    return _save(nodes, [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
                 [helper.make_tensor_value_info("states", TensorProto.FLOAT, ["batch", "length", width])], constants,
                 Path(folder) / "bert.onnx")
