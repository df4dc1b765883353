"""How random graphs grow: each recipe adds a few nodes to a builder (random_graphs.py), or none when nothing fits."""
import numpy as np

from random_graphs import INTEGERS, broadcast

WIDEST = 4096  # elements: what would be larger is not made
SMOOTH = ["Tanh", "Sigmoid", "Erf", "Softsign", "Sin", "Cos", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Softplus", "HardSigmoid", "HardSwish", "Mish",
          "Abs", "Neg", "Identity", "Gelu"]
SINGLE = {"Gelu", "Erf", "Mish", "HardSwish", "Softplus", "Softsign", "Celu", "Selu", "Elu", "HardSigmoid", "LeakyRelu"}  # float32 in ONNX Runtime
EXACT = {"Abs", "Neg", "Identity", "Relu"}


def size(shape):
    return int(np.prod(shape, dtype=np.int64))


def activation(g):
    operator = g.draw.choice(SMOOTH)
    x = g.floats(dtypes=(np.float32,) if operator in SINGLE or g.draw.random() < 0.8 else (np.float64,))
    if x:
        attributes = {"approximate": g.draw.choice(["none", "tanh"])} if operator == "Gelu" else {}
        g.node(operator, [x], x.shape, bound=x.bound * 2, exact=operator in EXACT, **attributes)


def guarded(g):
    """Functions with a pole, kept away from it."""
    x = g.floats()
    if not x:
        return
    small = g.constant(np.array(0.5, x.dtype))
    positive = g.node("Add", [g.node("Abs", [x], x.shape, bound=x.bound), small], x.shape, bound=x.bound + 1)
    operator = g.draw.choice(["Sqrt", "Log", "Reciprocal", "Exp", "Pow"])
    if operator == "Exp":
        g.node("Exp", [g.node("Neg", [positive], x.shape)], x.shape)
    elif operator == "Pow":
        g.node("Pow", [positive, g.constant(np.array(g.draw.choice([2, 0.5, 3, -1]), x.dtype))], x.shape, bound=(x.bound + 1) ** 3)
    else:
        g.node(operator, [positive], x.shape, bound=x.bound + 2)


def rounding(g):
    x = g.floats(lambda v: v.exact)
    if x and x.exact:
        g.node(g.draw.choice(["Floor", "Ceil", "Round", "Sign"]), [x], x.shape, bound=x.bound + 1, exact=True)


def binary(g):
    x = g.floats() if g.draw.random() < 0.75 else g.pick(lambda v: v.dtype in INTEGERS and v.bound < 1000)
    if not x:
        return
    y = g.partner(x)
    shape = broadcast(x, y)
    if size(shape) > WIDEST:
        return
    first, second = (x, y) if g.draw.random() < 0.5 else (y, x)
    operator = g.draw.choice(["Add", "Sub", "Mul", "Min", "Max"])
    bound = x.bound * y.bound + 1 if operator == "Mul" else x.bound + y.bound
    g.node(operator, [first, second], shape, bound=bound, exact=not x.floating or operator in ("Min", "Max"))


def division(g):
    x = g.floats()
    if x:
        y = g.partner(x)
        if size(broadcast(x, y)) <= WIDEST:
            one = g.constant(np.array(1, x.dtype))
            divisor = g.node("Add", [g.node("Abs", [y], y.shape, bound=y.bound), one], y.shape, bound=y.bound + 1)
            g.node("Div", [x, divisor], broadcast(x, y), bound=x.bound)


def integer_division(g):
    x = g.pick(lambda v: v.dtype in INTEGERS)
    if x:
        divisor = g.constant(np.array(g.draw.choice([2, 3, 7]), x.dtype))
        operator = g.draw.choice(["Div", "Mod"])
        g.node(operator, [x, divisor], x.shape, bound=x.bound, exact=True)


def variadic(g):
    x = g.floats()
    if x:
        parts = [x, g.partner(x), g.partner(x)][:g.draw.randrange(1, 4)]
        try:
            shape = broadcast(*parts)
        except ValueError:
            return
        if size(shape) <= WIDEST:
            g.node(g.draw.choice(["Sum", "Mean", "Max", "Min"]), parts, shape, bound=sum(p.bound for p in parts))


def comparison(g):
    x = g.pick(lambda v: v.exact and (v.dtype in INTEGERS or v.dtype == np.float32))
    if x:
        y = g.partner(x)
        if y.exact and size(broadcast(x, y)) <= WIDEST:
            g.node(g.draw.choice(["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"]), [x, y], broadcast(x, y), dtype=bool, exact=True)


def logic(g):
    x = g.pick(lambda v: v.dtype == bool)
    if x and g.draw.random() < 0.3:
        g.node("Not", [x], x.shape, exact=True)
    elif x:
        y = g.partner(x)
        if size(broadcast(x, y)) <= WIDEST:
            g.node(g.draw.choice(["And", "Or", "Xor"]), [x, y], broadcast(x, y), exact=True)


def where(g):
    condition, x = g.pick(lambda v: v.dtype == bool), g.floats()
    if condition and x:
        y = g.partner(x)
        try:
            shape = broadcast(condition, x, y)
        except ValueError:
            return
        if size(shape) <= WIDEST:
            g.node("Where", [condition, x, y], shape, dtype=x.dtype, bound=max(x.bound, y.bound), exact=True)


def cast(g):
    x = g.pick(lambda v: v.exact and v.bound < 100)
    if x:
        to = g.draw.choice([np.float32, np.float64, np.int64, np.int32, bool, np.float16, np.int8])
        code = {np.float32: 1, np.int8: 3, np.int32: 6, np.int64: 7, bool: 9, np.float16: 10, np.float64: 11}[to]
        y = g.node("Cast", [x], x.shape, dtype=to, bound=x.bound, exact=True, to=code)
        if to in (np.float16, np.int8):
            g.node("Cast", [y], x.shape, dtype=np.float32, bound=x.bound, exact=True, to=1)


def clip(g):
    x = g.floats()
    if x:
        low, high = g.constant(np.array(-0.7, x.dtype)), g.constant(np.array(1.3, x.dtype))
        g.node("Clip", [x, low, None if g.draw.random() < 0.3 else high], x.shape, bound=x.bound, exact=True)


def matmul(g):
    x = g.floats(lambda v: v.rank >= 1, dtypes=(np.float32,))
    if not x:
        return
    k, n = x.shape[-1], g.draw.choice([1, 3, 8, 17])
    if k == 0:  # ONNX Runtime leaves sums of nothing uninitialized
        return
    other = g.pick(lambda v: v.dtype == np.float32 and v.rank >= 2 and v.shape[-2] == k and v is not x)
    y = g.calm(other) if other and g.draw.random() < 0.5 else g.weights(*([k, n] if x.rank < 3 or g.draw.random() < 0.7 else [*x.shape[:-2], k, n]))
    try:
        shape = np.matmul(np.empty(x.shape, bool), np.empty(y.shape, bool)).shape
    except ValueError:
        return
    if 0 < size(shape) <= WIDEST:  # ONNX Runtime does not broadcast to batches of none
        g.node("MatMul", [x, y], shape, bound=x.bound * y.bound * k + 1)


def linear(g):
    """MatMul, bias, activation, residual: what fusion looks for, with parts left out."""
    x = g.floats(lambda v: v.rank >= 2, dtypes=(np.float32,))
    if not x:
        return
    n = x.shape[-1] if g.draw.random() < 0.4 else g.draw.choice([3, 16, 33])
    shape = (*x.shape[:-1], n)
    if size(shape) > WIDEST:
        return
    bound = x.bound * 2 * x.shape[-1] + 3
    if x.rank == 2 and g.draw.random() < 0.4:
        transposed = g.draw.randrange(2)
        w = g.weights(n, x.shape[-1]) if transposed else g.weights(x.shape[-1], n)
        y = g.node("Gemm", [x, w, g.weights(n) if g.draw.random() < 0.7 else None], shape, bound=bound, transB=transposed, alpha=g.draw.choice([1.0, 0.5]))
    else:
        y = g.node("MatMul", [x, g.weights(x.shape[-1], n)], shape, bound=bound)
        if g.draw.random() < 0.7:
            operands = [y, g.weights(n)]
            g.draw.shuffle(operands)
            y = g.node("Add", operands, shape, bound=bound)
    if g.draw.random() < 0.5:
        y = g.node(g.draw.choice(["Relu", "Tanh", "Gelu", "Sigmoid"]), [y], shape, bound=bound)
    if n == x.shape[-1] and g.draw.random() < 0.5:
        g.node("Add", [x, y], shape, bound=bound + x.bound)


def attention(g):
    """Scores, a mask sometimes, softmax, values: with the heads apart or not."""
    x = g.floats(lambda v: v.rank == 3 and v.shape[-1] % 2 == 0 and 0 < size(v.shape) < 1024, dtypes=(np.float32,))
    if not x:
        return
    batch, length, width = x.shape
    heads = g.draw.choice([1, 2])
    split, joined = (batch, length, heads, width // heads), (batch, heads, length, width // heads)

    def head(name):
        y = g.node("MatMul", [x, g.weights(width, width)], x.shape, bound=x.bound * 2 * width)
        y = g.node("Reshape", [y, g.ints(0, 0, heads, width // heads)], split, bound=y.bound)
        return g.node("Transpose", [y], joined, bound=y.bound, perm=[0, 2, 1, 3])
    q, k, v = head("q"), head("k"), head("v")
    keys = g.node("Transpose", [k], (batch, heads, width // heads, length), perm=[0, 1, 3, 2])
    scores = g.node("MatMul", [q, keys], (batch, heads, length, length))
    scores = g.node("Mul", [scores, g.constant(np.array(0.02, np.float32))], scores.shape)
    if g.draw.random() < 0.5:
        mask = np.where(g.numbers.random((1, 1, length, length)) < 0.3, -1e9, 0).astype(np.float32)
        scores = g.node("Add", [scores, g.constant(mask)], scores.shape)
    weights = g.node("Softmax", [scores], scores.shape, axis=-1)
    y = g.node("MatMul", [weights, v], joined, bound=v.bound)
    y = g.node("Transpose", [y], split, bound=y.bound, perm=[0, 2, 1, 3])
    g.node("Reshape", [y, g.ints(0, 0, width)], x.shape, bound=y.bound)


RECIPES = [activation] * 3 + [guarded, rounding, binary, binary, binary, division, integer_division, variadic, comparison, logic, where, where, cast, clip,
                              matmul, matmul, linear, linear, linear, attention]
