"""Variants of the com.microsoft operators that are neither attention nor 8-bit: normalizations, activations, products with a
scale or an activation, block-quantized weights; and SimplifiedLayerNormalization as ONNX Runtime writes it."""
import itertools

import ml_dtypes
import numpy as np

from executor import Case

random = np.random.default_rng(22)


def normal(*shape):
    return random.standard_normal(shape).astype(np.float32)


def normalizations():
    for shape, skip in (((2, 5, 16), (2, 5, 16)), ((3, 4, 7), (1, 4, 7)), ((3, 4, 7), (4, 7)), ((1, 1, 33), (1, 1, 33)), ((2, 0, 8), (2, 0, 8))):
        width = shape[-1]
        for beta, bias, all_outputs in itertools.product((0, 1), (0, 1), (0, 1)):
            inputs = [normal(*shape), normal(*skip), normal(width), normal(width) if beta else None, normal(width) if bias else None]
            outputs = (0, 3) if all_outputs else (0,)
            yield Case("SkipLayerNormalization", inputs, {"epsilon": 1e-6}, outputs, (2, 3, 4))
            yield Case("SkipSimplifiedLayerNormalization", inputs[:3] + inputs[4:], {"epsilon": 1e-5}, outputs, (2, 3))
            yield Case("SkipLayerNormalization", inputs, {}, outputs)
    yield Case("SkipSimplifiedLayerNormalization", [normal(6, 9), normal(6, 9), normal(9)], {}, (0, 3))
    for shape, axis in itertools.product(((2, 3, 16), (4, 7), (1, 2, 3, 5)), (-1, 1)):
        size = shape[axis:]
        for domain, attributes in (("", {"axis": axis}), ("", {"axis": axis, "epsilon": 1e-3, "stash_type": 1})):
            yield Case("SimplifiedLayerNormalization", [normal(*shape), normal(*size)], attributes, (0,), (1,), domain=domain)
            yield Case("SimplifiedLayerNormalization", [normal(*shape), normal(*size)], attributes, (0, 1), domain=domain)
    # float16 in and out, float32 between.
    yield Case("SkipLayerNormalization", [normal(2, 3, 8).astype(np.float16), normal(2, 3, 8).astype(np.float16), normal(8).astype(np.float16)], {}, tolerance=2e-3)


def embedding():
    batch, length, hidden = 2, 6, 8
    for kind, segments, mask, places in itertools.product((np.int32,), (0, 1), (0, 1), (None, (2, 6), (1, 6))):
        ids = random.integers(0, 20, (batch, length)).astype(kind)
        seen = np.ones((batch, length), kind)
        seen[1, 4:] = 0
        inputs = [ids, random.integers(0, 2, (batch, length)).astype(kind) if segments else None, normal(20, hidden), normal(9, hidden),
                  normal(2, hidden) if segments else None, normal(hidden), normal(hidden), seen if mask else None,
                  random.integers(0, 9, places).astype(kind) if places else None]
        while inputs[-1] is None:
            inputs.pop()
        yield Case("EmbedLayerNormalization", inputs, {"epsilon": 1e-6, "mask_index_type": mask}, (0, 1, 2) if mask else (0, 2), (2, 3, 4, 5, 6))


def activations():
    for shape in ((2, 5, 12), (3, 7), (4,), (0, 4)):
        x = normal(*shape) * 3
        yield Case("Gelu", [x])
        yield Case("FastGelu", [x])
        for constants in ((), (1,)):
            yield Case("BiasGelu", [x, normal(shape[-1])], constants=constants)
            yield Case("FastGelu", [x, normal(shape[-1])], constants=constants)
        for attributes in ({}, {"alpha": 1.0}, {"alpha": 0.3}):
            yield Case("QuickGelu", [x], attributes)


def products():
    for transposed_a, transposed_b, alpha in itertools.product((0, 1), (0, 1), (1.0, 0.125)):
        attributes = {"transA": transposed_a, "transB": transposed_b, "alpha": alpha}
        for a, b in (((4, 6), (6, 5)), ((2, 4, 6), (2, 6, 5)), ((2, 3, 4, 6), (6, 5)), ((1, 4, 6), (3, 6, 5)), ((2, 1, 4, 6), (3, 6, 5))):
            a, b = normal(*a), normal(*b)
            inputs = [a.swapaxes(-1, -2).copy() if transposed_a else a, b.swapaxes(-1, -2).copy() if transposed_b else b]
            yield Case("FusedMatMul", inputs, attributes)
            yield Case("FusedMatMul", inputs, attributes, constants=(1,))
        # The first axis of the operand belongs before its last: [rows, batch…, columns].
        for batch_a, batch_b in ((1, 0), (0, 1), (1, 1)):
            a = normal(4, 2, 3, 6) if batch_a else normal(2, 3, 4, 6)
            b = normal(6, 2, 3, 5) if batch_b else normal(2, 3, 6, 5)
            if transposed_a:
                a = normal(6, 2, 3, 4) if batch_a else normal(2, 3, 6, 4)
            if transposed_b:
                b = normal(5, 2, 3, 6) if batch_b else normal(2, 3, 5, 6)
            yield Case("FusedMatMul", [a, b], {**attributes, "transBatchA": batch_a, "transBatchB": batch_b})
    for activation, parameters in (("Relu", {}), ("Tanh", {}), ("Sigmoid", {}), ("LeakyRelu", {"activation_alpha": 0.2}), ("Elu", {"activation_alpha": 0.7}),
                                   ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4}), ("Softsign", {}), ("Softplus", {})):
        for transposed, c in itertools.product((0, 1), (None, (5,), (4, 5), (1,))):
            inputs = [normal(4, 6), normal(5, 6) if transposed else normal(6, 5), None if c is None else normal(*c)]
            yield Case("FusedGemm", inputs, {"activation": activation, **parameters, "transB": transposed, "alpha": 0.8, "beta": 1.5 if c else 1.0}, constants=(1,))
    for activation, parameters in (("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.8]), ("HardSigmoid", [0.3, 0.4])):
        for bias, residual in ((0, 0), (1, 0), (1, 1)):
            inputs = [normal(2, 4, 6, 7), normal(8, 4, 3, 3), normal(8) if bias else None, normal(2, 8, 4, 5) if residual else None]
            attributes = {"activation": activation, "kernel_shape": [3, 3]}
            yield Case("FusedConv", inputs, {**attributes, "activation_params": parameters} if parameters else attributes, constants=(1, 2))


def packed(values, bits):
    """Fields of `bits` along the last axis in bytes, low bits first."""
    per_byte = 8 // bits
    values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % per_byte)])
    parts = values.reshape(*values.shape[:-1], -1, per_byte).astype(np.uint32) << (np.arange(per_byte) * bits).astype(np.uint32)
    return parts.sum(-1).astype(np.uint8)


def blocks():
    """MatMulNBits over bits, sizes that do not fill the last block, zero points of both kinds, a bias, all accuracy levels."""
    for bits, (n, k), block in itertools.product((2, 4, 8), ((6, 32), (5, 48), (16, 128), (1, 17)), (16, 32)):
        groups = -(-k // block)
        weights = packed(random.integers(0, 1 << bits, (n, groups, block)), bits)
        scales = random.random((n, groups)).astype(np.float32) * 0.1 + 0.01
        zeros = {"none": None, "packed": packed(random.integers(0, 1 << bits, (n, groups)), bits), "float": normal(n, groups) + 2}
        for kind, zero in zeros.items():
            for rows, bias, level in ((3, 0, 0), (1, 1, 1), (5, 1, 4)):
                if kind == "float" and (bits == 8 or level == 4):  # ONNX Runtime has no such kernel
                    continue
                inputs = [normal(2, rows, k), weights, scales.reshape(-1) if bits == 8 else scales, zero if zero is None or kind == "float" else zero.reshape(n, -1)]
                inputs += [None, normal(n)] if bias else []
                # From accuracy level 4 on, ONNX Runtime rounds the activations to 8 bits.
                yield Case("MatMulNBits", inputs, {"bits": bits, "K": k, "N": n, "block_size": block, "accuracy_level": level}, constants=(1, 2, 3, 5),
                           tolerance=2e-2 if level == 4 else 2e-5, text=f"zero points {kind}")


def reordered_blocks():
    """Columns that belong to other blocks than their place says (act-order GPTQ)."""
    for n, k in ((6, 64), (3, 48)):
        groups = k // 16
        x, codes, scales = normal(3, k), random.integers(0, 16, (n, groups, 16)), random.random((n, groups)).astype(np.float32)
        zeros, order = random.integers(0, 16, (n, groups)), random.permutation(np.arange(k) // 16).astype(np.int32)
        attributes = {"bits": 4, "K": k, "N": n, "block_size": 16}
        yield Case("MatMulNBits", [x, packed(codes, 4), scales, None, order], attributes, constants=(1, 2, 4))
        # ONNX Runtime 1.31 takes 8 for every zero point here: judged by the definition.
        dense = (codes.reshape(n, k) - zeros[:, order]) * scales[:, order]
        yield Case("MatMulNBits", [x, packed(codes, 4), scales, packed(zeros, 4), order], attributes, constants=(1, 2, 3, 4),
                   reference=lambda y=(x @ dense.T).astype(np.float32): {0: y})


def gather_blocks():
    """Tables in bytes of 2-, 4- or 8-bit fields; and of 4-bit types, gathered and quantized along any axis."""
    for bits, shape in itertools.product((2, 4, 8), ((5, 64), (7, 32), (3, 4, 32))):
        data = packed(random.integers(0, 1 << bits, shape), bits)
        groups = (*shape[:-1], shape[-1] // 16)
        for zero in (None, packed(random.integers(0, 1 << bits, groups), bits)):
            for indices in (random.integers(0, shape[0], (2, 3)), np.array([0, shape[0] - 1, -1]), np.array(1)):
                inputs = [data, indices.astype(np.int64), random.random(groups).astype(np.float32), zero]
                yield Case("GatherBlockQuantized", inputs, {"bits": bits, "gather_axis": 0, "quantize_axis": len(shape) - 1, "block_size": 16}, constants=(0, 2, 3))
    for dtype, shape, (gather, quantize) in itertools.product((ml_dtypes.int4, ml_dtypes.uint4), ((3, 40), (5, 17), (2, 3, 18)), ((0, 1), (1, 0), (-1, 0))):
        low = -8 if dtype == ml_dtypes.int4 else 0
        groups = [-(-d // 16) if axis == quantize else d for axis, d in enumerate(shape)]
        for zeros in (0, 1):
            inputs = [random.integers(low, low + 16, shape).astype(dtype), random.integers(0, shape[gather], 4).astype(np.int32), random.random(groups).astype(np.float32),
                      random.integers(low, low + 16, groups).astype(dtype) if zeros else None]
            yield Case("GatherBlockQuantized", inputs, {"gather_axis": gather, "quantize_axis": quantize, "block_size": 16}, constants=(0, 2, 3))


def cases():
    yield from normalizations()
    yield from embedding()
    yield from activations()
    yield from products()
    yield from blocks()
    yield from gather_blocks()
    yield from reordered_blocks()
