"""Recipes (see graph_recipes.py) with 8-bit and half values, sub-graphs, scattering and equations."""
import numpy as np
from onnx import helper

from graph_recipes import WIDEST, size


def quantized_weights(g):
    """A product with weights that are dequantized while the model runs: per tensor, column, or in blocks."""
    x = g.floats(lambda v: v.rank >= 2 and size(v.shape) > 0, dtypes=(np.float32,))
    if not x:
        return
    k, n = x.shape[-1], g.draw.choice([4, 16, 17])
    dtype = g.draw.choice([np.int8, np.uint8])
    codes = g.constant(g.numbers.integers(-100 if dtype == np.int8 else 20, 100, (k, n)).astype(dtype))
    kind, attributes = g.draw.choice(["tensor", "column", "block"]), {}
    shape = {"tensor": (), "column": (n,), "block": (-(-k // 4), n)}[kind]
    if kind == "column":
        attributes = {"axis": g.draw.choice([1, -1])}
    elif kind == "block":
        attributes = {"axis": 0, "block_size": 4}
    inputs = [codes, g.constant(np.asarray(g.numbers.uniform(0.01, 0.03, shape), np.float32))]
    if g.draw.random() < 0.5:
        inputs.append(g.constant(np.asarray(g.numbers.integers(0, 60, shape), dtype)))
    w = g.node("DequantizeLinear", inputs, (k, n), dtype=np.float32, bound=5, **attributes)
    y = g.node("MatMul", [x, w], (*x.shape[:-1], n), bound=x.bound * 5 * k)
    if g.draw.random() < 0.5:
        g.node("Add", [y, g.weights(n)], y.shape, bound=y.bound + 2)


def quantize(g):
    x = g.floats(lambda v: v.exact, dtypes=(np.float32,))
    if x and x.exact:
        dtype = g.draw.choice([np.int8, np.uint8])
        scale, zero = g.constant(np.array(0.037, np.float32)), g.constant(np.array(3, dtype))
        q = g.node("QuantizeLinear", [x, scale, zero], x.shape, dtype=dtype, bound=255, exact=True)
        g.node("DequantizeLinear", [q, scale, zero], x.shape, dtype=np.float32, bound=10, exact=True)


def integer_product(g):
    """Bytes times bytes, and what dynamic quantization makes of it."""
    x = g.floats(lambda v: v.exact and v.rank >= 2 and size(v.shape) > 0, dtypes=(np.float32,))
    if not x or not x.exact:
        return
    k, n = x.shape[-1], g.draw.choice([1, 8, 13])
    q = g.node("QuantizeLinear", [x, g.constant(np.array(0.05, np.float32)), g.constant(np.array(128, np.uint8))], x.shape, dtype=np.uint8, exact=True)
    w = g.constant(g.numbers.integers(-60, 60, (k, n)).astype(g.draw.choice([np.int8])))
    inputs = [q, w] + ([g.constant(np.array(128, np.uint8))] if g.draw.random() < 0.7 else [])
    sums = g.node("MatMulInteger", inputs, (*x.shape[:-1], n), dtype=np.int32, bound=1e6, exact=True)
    y = g.node("Cast", [sums], sums.shape, dtype=np.float32, bound=1e6, exact=True, to=1)
    g.node("Mul", [y, g.constant(g.numbers.uniform(1e-4, 1e-3, n).astype(np.float32))], y.shape, bound=1e3)


def coded(g, x, scale=None):
    """x rounded to codes and back, as static quantization marks a value; a rounding may flip, so nothing behind it is exact."""
    dtype = g.draw.choice([np.uint8, np.uint8, np.int8])
    scale = g.constant(np.array(scale or max(x.bound, 0.1) / 100, np.float32))
    zero = g.constant(np.array(g.draw.choice([0, 3, 128 if dtype == np.uint8 else -9]), dtype))
    q = g.node("QuantizeLinear", [x, scale, zero], x.shape, dtype=dtype, bound=255)
    return g.node("DequantizeLinear", [q, scale, zero], x.shape, dtype=np.float32, bound=3 * x.bound)


def coded_chain(g):
    """Values in codes between every two operators: linear layers, moves, sums, activations, softmax."""
    x = g.floats(lambda v: v.rank in (2, 3) and size(v.shape) > 0 and v.bound <= 20, dtypes=(np.float32,))
    if not x:
        return
    g.tolerance = 0.1  # a flipped rounding is a whole step
    x = coded(g, x, 0.03)
    for _ in range(g.draw.randrange(1, 5)):
        kind = g.draw.choice(["linear", "linear", "Transpose", "Reshape", "Add", "Relu", "Sigmoid", "Softmax", "Mul", "LayerNormalization", "Shape"])
        if kind == "linear":
            n = g.draw.choice([8, 16, 5])
            scales = g.constant(np.asarray(g.numbers.uniform(0.002, 0.004, n), np.float32))
            codes = g.constant(g.numbers.integers(-90, 90, (x.shape[-1], n)).astype(np.int8))
            w = g.node("DequantizeLinear", [codes, scales], codes.shape, dtype=np.float32, bound=0.4, axis=1)
            y = g.node("MatMul", [x, w], (*x.shape[:-1], n), bound=2)
            if g.draw.random() < 0.7:
                y = g.node("Add", [y, g.weights(n)], y.shape, bound=4)
        elif kind == "Transpose":
            order = list(range(x.rank))
            g.draw.shuffle(order)
            y = g.node("Transpose", [x], [x.shape[a] for a in order], bound=x.bound, perm=order)
        elif kind == "Reshape":
            y = g.node("Reshape", [x, g.ints(-1, x.shape[-1])], (size(x.shape[:-1]), x.shape[-1]), bound=x.bound)
        elif kind == "Shape":
            g.node("Shape", [x], (x.rank,), dtype=np.int64, bound=100, exact=True)
            g.values[-1].exact = True
            continue
        elif kind in ("Add", "Mul"):
            other = x if g.draw.random() < 0.3 else coded(g, g.node("Neg", [x], x.shape, bound=x.bound), 0.02)
            y = g.node(kind, [x, other], x.shape, bound=4)
        elif kind == "LayerNormalization":
            y = g.node(kind, [x, g.weights(x.shape[-1])], x.shape, bound=4, axis=-1, epsilon=1e-1)
        else:
            y = g.node(kind, [x], x.shape, bound=1 if kind != "Relu" else x.bound)
        x = coded(g, y, {"Softmax": 1 / 256, "Sigmoid": 1 / 256}.get(kind, 0.03))


def half(g):
    """A few operators in float16, whose roundings the graph then carries."""
    x = g.floats(lambda v: v.rank >= 2 and size(v.shape) > 0, dtypes=(np.float32,))
    if not x or x.bound > 20:
        return
    g.tolerance = 2e-2
    y = g.node("Cast", [x], x.shape, dtype=np.float16, bound=x.bound, to=10)
    for _ in range(g.draw.randrange(1, 4)):
        kind = g.draw.choice(["Add", "Mul", "Tanh", "MatMul", "Softmax", "LayerNormalization"])
        if kind == "MatMul":
            w = g.constant(g.numbers.uniform(-0.5, 0.5, (y.shape[-1], 8)).astype(np.float16))
            y = g.node("MatMul", [y, w], (*y.shape[:-1], 8), bound=y.bound * y.shape[-1] / 2)
        elif kind in ("Add", "Mul"):
            y = g.node(kind, [y, g.weights(y.shape[-1], dtype=np.float16)], y.shape, bound=2 * y.bound + 2)
        elif kind == "LayerNormalization":
            y = g.node(kind, [y, g.weights(y.shape[-1], dtype=np.float16)], y.shape, bound=10, axis=-1, epsilon=1e-2)
        else:
            y = g.node(kind, [y], y.shape)
    g.node("Cast", [y], y.shape, dtype=np.float32, bound=y.bound, to=1)


def einsum(g):
    x = g.floats(lambda v: v.rank == 3 and size(v.shape) > 0, dtypes=(np.float32,))
    if not x:
        return
    b, i, j = x.shape
    equation, other, shape = g.draw.choice([("bij,jk->bik", (j, 5), (b, i, 5)), ("bij,bjk->bik", (b, j, 3), (b, i, 3)), ("bij,bkj->bik", (b, 4, j), (b, i, 4)),
                                            ("bij,jhd->bhid", (j, 2, 3), (b, 2, i, 3)), ("bij->bji", None, (b, j, i)), ("bij->bi", None, (b, i))])
    inputs = [x] + ([g.weights(*other)] if other else [])
    if size(shape) <= WIDEST:
        g.node("Einsum", inputs, shape, bound=x.bound * 2 * j * i, equation=equation)


def branch(g):
    """If, its branches reading a value from outside."""
    x, condition = g.floats(dtypes=(np.float32,)), g.pick(lambda v: v.dtype == bool and v.shape == ())
    if not x:
        return
    condition = condition or g.constant(np.array(bool(g.draw.randrange(2))))
    def body(name, operator):
        node = helper.make_node(operator, [x.name], [f"{g.fresh()}_{name}"])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(node.output[0], 1, [None] * x.rank)])
    g.node("If", [condition], x.shape, dtype=np.float32, bound=x.bound, then_branch=body("then", "Neg"), else_branch=body("else", "Abs"))


def scatter(g):
    x = g.floats(lambda v: v.rank >= 1 and size(v.shape) > 0, dtypes=(np.float32,))
    if not x:
        return
    axis, written = g.axis(x)
    if g.draw.random() < 0.5:
        shape = [g.draw.randrange(1, d + 1) for d in x.shape]
        chosen = g.numbers.permutation(x.shape[axis])[:shape[axis]]  # each place once: the order of writes is not defined
        indices = np.broadcast_to(chosen.reshape([-1 if a == axis else 1 for a in range(x.rank)]), shape)
        g.node("ScatterElements", [x, g.constant(indices.astype(np.int64)), g.weights(*shape)], x.shape, bound=x.bound + 2, exact=True, axis=written)
    else:
        rows = g.numbers.permutation(x.shape[0])[:g.draw.randrange(1, x.shape[0] + 1)]
        g.node("ScatterND", [x, g.constant(rows.astype(np.int64)[:, None]), g.weights(len(rows), *x.shape[1:])], x.shape, bound=x.bound + 2, exact=True)


def generate(g):
    """Values from shapes and indices: OneHot, Range, ConstantOfShape, EyeLike."""
    x = g.pick(lambda v: v.rank >= 1 and v.dtype == np.float32)
    kind = g.draw.choice(["OneHot", "Range", "ConstantOfShape"])
    if kind == "OneHot":
        indices = g.constant(g.numbers.integers(-4, 4, (3, 2)))
        g.node("OneHot", [indices, g.constant(np.array(4)), g.constant(np.array([-1, 2], np.float32))], (3, 2, 4), dtype=np.float32, bound=2, exact=True, axis=-1)
    elif kind == "Range":
        limits = [g.constant(np.array(v, np.int64)) for v in (2, 11, 3)]
        g.node("Range", limits, (3,), bound=11, exact=True)
    elif x:
        shape = g.node("Shape", [x], (x.rank,), dtype=np.int64, bound=100, exact=True)
        filled = helper.make_tensor("value", 1, [1], [0.75])
        g.node("ConstantOfShape", [shape], x.shape, dtype=np.float32, exact=True, value=filled)


RECIPES = [quantized_weights, quantized_weights, coded_chain, coded_chain, quantize, integer_product, half, einsum, branch, scatter, generate]
