"""Variants of the operators with 8-bit operands that ONNX Runtime's quantizer and optimizer write."""
import itertools

import numpy as np

from executor import Case

random = np.random.default_rng(21)
STEPS = 1  # a product may lie between two steps


def normal(*shape):
    return random.standard_normal(shape).astype(np.float32)


def real(value):
    return np.array(value, np.float32)


def integers(dtype, *shape):
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max + 1, shape).astype(dtype)


def operand(dtype, *shape, scale=0.05, zero=None):
    """Values, scale and zero point."""
    default = 3 if dtype == np.int8 else 121
    return [integers(dtype, *shape), real(scale), np.array(default if zero is None else zero, dtype)]


def result(dtype, scale):
    return [real(scale), np.array(-5 if dtype == np.int8 else 110, dtype)]


TYPES = (np.uint8, np.int8)


def elementwise():
    for dtype, (a, b) in itertools.product(TYPES, [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((3, 1), (1, 5)), ((), (2, 2)), ((1,), (3, 2))]):
        for name, scale in (("QLinearAdd", 0.09), ("QLinearMul", 0.3)):
            inputs = operand(dtype, *a) + operand(dtype, *b, scale=0.03) + result(dtype, scale)
            yield Case(name, inputs, tolerance=STEPS)
            yield Case(name, inputs, constants=(1, 2, 3, 4, 5, 6, 7), tolerance=STEPS)
    for dtype, shape in itertools.product(TYPES, [(2, 3, 4), (7,), ()]):
        for constants in ((), (1, 2, 3, 4)):
            yield Case("QLinearSigmoid", operand(dtype, *shape) + [real(1 / 256), np.array(-128 if dtype == np.int8 else 0, dtype)], constants=constants, tolerance=STEPS)
            yield Case("QLinearLeakyRelu", operand(dtype, *shape) + result(dtype, 0.04), {"alpha": 0.2}, constants=constants, tolerance=STEPS)
        yield Case("QLinearLeakyRelu", operand(dtype, *shape) + result(dtype, 0.04), tolerance=STEPS)
        for left_out in ((2,), (4,), (2, 4)):
            inputs = operand(dtype, *shape) + result(dtype, 0.04)
            yield Case("QLinearLeakyRelu", [None if k in left_out else x for k, x in enumerate(inputs)], tolerance=STEPS)
    for dtype, opset, axis in itertools.product(TYPES, (11, 13), (0, 1, -1)):
        zero = np.array(-128 if dtype == np.int8 else 0, dtype)
        yield Case("QLinearSoftmax", operand(dtype, 3, 4, 5, scale=0.02) + [real(1 / 256), zero], {"axis": axis, "opset": opset}, constants=(1, 2, 3, 4), tolerance=STEPS)
    for dtype in TYPES:
        for condition, a, b in (((2, 3), (2, 3), (2, 3)), ((3,), (2, 1), (2, 3)), ((2, 3), (1,), (1,))):
            inputs = [random.random(condition) > 0.5] + operand(dtype, *a) + operand(dtype, *b, scale=0.03) + result(dtype, 0.08)
            yield Case("QLinearWhere", inputs, constants=(2, 3, 5, 6, 7, 8), tolerance=STEPS)
        for axis in (0, 1, -1):
            parts = [operand(dtype, *[2 + k if d == axis % 3 else 3 for d in range(3)], scale=0.02 * (k + 1)) for k in range(3)]
            inputs = result(dtype, 0.05) + sum(parts, [])
            yield Case("QLinearConcat", inputs, {"axis": axis}, tolerance=STEPS)
            yield Case("QLinearConcat", inputs, {"axis": axis}, constants=(0, 1, 3, 4, 6, 7, 9, 10), tolerance=STEPS)


def pools():
    for dtype in TYPES:
        for attributes in ({}, {"strides": [2, 2]}, {"pads": [1, 0, 1, 1]}, {"pads": [1, 1, 1, 1], "count_include_pad": 1}, {"strides": [2, 3], "ceil_mode": 1}):
            attributes = {"kernel_shape": [2, 3], **attributes}
            for last in (0, 1):
                shape = (2, 6, 7, 3) if last else (2, 3, 6, 7)
                yield Case("QLinearAveragePool", operand(dtype, *shape) + result(dtype, 0.043), {**attributes, "channels_last": last}, tolerance=STEPS)
        yield Case("QLinearAveragePool", operand(dtype, 2, 3, 9) + result(dtype, 0.043), {"kernel_shape": [4]}, tolerance=STEPS)
        for shape, last in (((2, 3, 4, 5), 0), ((2, 4, 5, 3), 1), ((1, 3, 6), 0)):
            yield Case("QLinearGlobalAveragePool", operand(dtype, *shape) + result(dtype, 0.043), {"channels_last": last}, tolerance=STEPS)
        for attributes in ({}, {"strides": [2, 1], "pads": [1, 0, 0, 1]}, {"dilations": [2, 1]}):
            yield Case("NhwcMaxPool", [integers(dtype, 2, 6, 7, 3)], {"kernel_shape": [2, 3], **attributes})


def products():
    """a's and b's types; scales and zero points of b one, or one a column."""
    for a, b, columns in itertools.product(TYPES, TYPES, (False, True)):
        if a == np.int8 and b == np.uint8:
            continue  # ONNX Runtime has no such kernel
        n, k = 7, 19
        b_scale = random.random(n).astype(np.float32) * 0.02 + 0.01 if columns else real(0.02)
        b_zero = random.integers(0, 5, n).astype(b) if columns else np.array(2, b)
        weights = integers(b, k, n)
        for shape in ((5, k), (2, 3, k)):
            x = operand(a, *shape)
            for constants in ((), (1, 3, 4, 5)):
                for zeros, bias in itertools.product((0, 1), (0, 1)):
                    inputs = [x[0], weights, x[1], b_scale, x[2] if zeros else None, b_zero if zeros else None, normal(n) * 9 if bias else None]
                    yield Case("MatMulIntegerToFloat", inputs, constants=constants)
                yield Case("QLinearMatMul", x + [weights, b_scale, b_zero] + result(a, 0.9), domain="", constants=tuple(c for c in (3, 4, 5) if constants), tolerance=STEPS)
        for transposed_a, transposed_b, c, quantized in itertools.product((0, 1), (0, 1), (None, (5, n), (n,)), (0, 1)):
            x = operand(a, *((k, 5) if transposed_a else (5, k)))
            addend = None if c is None else random.integers(-9999, 9999, c).astype(np.int32)
            inputs = x + [weights.T.copy() if transposed_b else weights, b_scale, b_zero, addend] + (result(a, 0.9) if quantized else [])
            yield Case("QGemm", inputs, {"transA": transposed_a, "transB": transposed_b, "alpha": 0.7}, constants=(3, 4, 5), tolerance=STEPS if quantized else 2e-5)
    for b, columns, zeros, bias in itertools.product(TYPES, (0, 1), (0, 1), (0, 1)):
        n, k = 9, 16
        inputs = [normal(2, 5, k), integers(b, k, n), random.random(n).astype(np.float32) * 0.1 if columns else real(0.03),
                  (random.integers(0, 5, n).astype(b) if columns else np.array(3, b)) if zeros else None, normal(n) if bias else None]
        # The activation is rounded to 8 bits: a tie may go either way.
        yield Case("DynamicQuantizeMatMul", inputs, constants=(1, 2, 3), tolerance=5e-3)
        yield Case("DynamicQuantizeMatMul", inputs, tolerance=5e-3)


def convolutions():
    for a, b, columns in itertools.product(TYPES, TYPES, (False, True)):
        if a == np.int8 and b == np.uint8:
            continue
        for attributes in ({}, {"strides": [2, 1], "pads": [1, 1, 0, 1]}, {"group": 2}, {"dilations": [1, 2]}):
            groups = attributes.get("group", 1)
            weights = integers(b, 6, 4 // groups, 2, 3)
            b_scale = random.random(6).astype(np.float32) * 0.02 + 0.01 if columns else real(0.02)
            b_zero = np.zeros(6, b) if columns else np.array(0 if b == np.int8 else 120, b)
            bias = random.integers(-999, 999, 6).astype(np.int32)
            for domain, shape, extra in (("", (2, 4, 6, 7), {}), ("com.microsoft", (2, 4, 6, 7), {}), ("com.microsoft", (2, 6, 7, 4), {"channels_last": 1})):
                inputs = operand(a, *shape) + [weights, b_scale, b_zero] + result(a, 0.8) + [bias]
                yield Case("QLinearConv", inputs, {"kernel_shape": [2, 3], **attributes, **extra}, domain=domain, constants=(3, 4, 5), tolerance=STEPS)


def quantized_attention():
    batch, hidden, heads, size = 2, 12, 4, 4
    width = 3 * heads * size
    for dtype, columns, causal, (length, past) in itertools.product(TYPES, (0, 1), (0, 1), ((5, 0), (2, 3))):
        total = past + length
        mask = np.ones((batch, total), np.int32)
        mask[1, total - 1] = 0
        for index in (None, mask):
            inputs = [integers(np.uint8, batch, length, hidden), integers(dtype, hidden, width), normal(width), real(0.02),
                      random.random(width).astype(np.float32) * 0.02 if columns else real(0.01), index, np.array(117, np.uint8),
                      np.zeros(width, dtype) if columns else np.array(2, dtype), normal(2, batch, heads, past, size) if past else None]
            yield Case("QAttention", inputs, {"num_heads": heads, "unidirectional": causal}, (0, 1) if past else (0,), (1, 2, 4, 7))


def cases():
    yield from elementwise()
    yield from pools()
    yield from products()
    yield from convolutions()
    yield from quantized_attention()
