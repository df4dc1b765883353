"""Recipes (see graph_recipes.py) that move elements, reduce, and normalize."""
import numpy as np

from graph_recipes import WIDEST, size


def transpose(g):
    x = g.pick(lambda v: v.rank >= 2)
    if x:
        order = list(range(x.rank))
        g.draw.shuffle(order)
        g.node("Transpose", [x], [x.shape[a] for a in order], bound=x.bound, exact=True, perm=order)


def reshape(g):
    x = g.pick(lambda v: size(v.shape) > 0)
    if not x:
        return
    shape, left = [], size(x.shape)
    while left > 1 and len(shape) < 3:
        factor = g.draw.choice([f for f in range(1, left + 1) if left % f == 0])
        shape.append(factor)
        left //= factor
    shape.append(left)
    target = list(shape)
    if g.draw.random() < 0.5:
        target[g.draw.randrange(len(target))] = -1
    target = [0 if k < x.rank and d == x.shape[k] and g.draw.random() < 0.3 else d for k, d in enumerate(target)]
    g.node("Reshape", [x, g.ints(*target)], shape, bound=x.bound, exact=True)


def reshape_by_shape(g):
    """The target computed from the input's own shape, as exporters write it."""
    x = g.pick(lambda v: v.rank >= 2 and size(v.shape) > 0)
    if not x:
        return
    whole = g.node("Shape", [x], (x.rank,), dtype=np.int64, bound=100, exact=True)
    first = g.node("Gather", [whole, g.constant(np.array(0))], (), dtype=np.int64, bound=100, exact=True, axis=0)
    first = g.node("Unsqueeze", [first, g.ints(0)], (1,), dtype=np.int64, bound=100, exact=True)
    target = g.node("Concat", [first, g.ints(-1)], (2,), dtype=np.int64, bound=100, exact=True, axis=0)
    g.node("Reshape", [x, target], (x.shape[0], size(x.shape[1:])), bound=x.bound, exact=True)


def squeeze(g):
    x = g.pick(lambda v: v.rank <= 3)
    if x and (1 not in x.shape or g.draw.random() < 0.6):
        axis = g.draw.randrange(x.rank + 1)
        g.node("Unsqueeze", [x, g.ints(axis - (x.rank + 1) if g.draw.random() < 0.5 else axis)], [*x.shape[:axis], 1, *x.shape[axis:]], bound=x.bound, exact=True)
    elif x:
        axis = x.shape.index(1)
        g.node("Squeeze", [x, g.ints(axis)], [*x.shape[:axis], *x.shape[axis + 1:]], bound=x.bound, exact=True)


def expand(g):
    x = g.pick(lambda v: 1 <= v.rank <= 3)
    if not x:
        return
    if g.draw.random() < 0.5:
        repeats = [g.draw.choice([1, 2, 3]) for _ in x.shape]
        shape = [d * r for d, r in zip(x.shape, repeats)]
        if size(shape) <= WIDEST:
            g.node("Tile", [x, g.ints(*repeats)], shape, bound=x.bound, exact=True)
    else:
        target = [g.draw.choice([1, 3])] + [d if d != 1 else g.draw.choice([1, 4]) for d in x.shape]
        if size(target) <= WIDEST:
            g.node("Expand", [x, g.ints(*target)], target, bound=x.bound, exact=True)


def slice_(g):
    x = g.pick(lambda v: v.rank >= 1)
    if not x:
        return
    axis, written = g.axis(x)
    length = x.shape[axis]
    start, end = g.draw.randrange(-length - 2, length + 3), g.draw.choice([*range(-length - 2, length + 3), 2**31, -2**31])
    step = g.draw.choice([1, 1, 2, -1, -3])
    shape = list(x.shape)
    # ONNX clamps as Python does, but a start before the first element is that element when stepping back.
    first = max(start, -length) if step < 0 else start
    shape[axis] = len(range(length)[first:end if end >= -length or step > 0 else None:step])
    g.node("Slice", [x, g.ints(start), g.ints(end), g.ints(written), g.ints(step)], shape, bound=x.bound, exact=True)


def split(g):
    x = g.pick(lambda v: v.rank >= 1 and max(v.shape) >= 2)
    if not x:
        return
    axis = x.shape.index(max(x.shape))
    cut = g.draw.randrange(1, x.shape[axis])
    parts = [cut, x.shape[axis] - cut]
    g.nodes_of("Split", [x, g.ints(*parts)], [[*x.shape[:axis], p, *x.shape[axis + 1:]] for p in parts], bound=x.bound, exact=True, axis=axis - x.rank)


def concat(g):
    x = g.pick(lambda v: v.rank >= 1)
    if not x:
        return
    axis, written = g.axis(x)
    others = [x, g.pick(lambda v: v.dtype == x.dtype and v.rank == x.rank and all(a == b or k == axis for k, (a, b) in enumerate(zip(v.shape, x.shape))))]
    if g.draw.random() < 0.5:
        others.append(g.weights(*x.shape, dtype=x.dtype))
    shape = list(x.shape)
    shape[axis] = sum(v.shape[axis] for v in others)
    if size(shape) <= WIDEST:
        g.node("Concat", others, shape, bound=max(v.bound for v in others), exact=True, axis=written)


def gather(g):
    x = g.pick(lambda v: v.rank >= 1 and 0 < size(v.shape))
    if not x:
        return
    axis, written = g.axis(x)
    length = x.shape[axis]
    if g.draw.random() < 0.6:
        indices = g.numbers.integers(-length, length, g.draw.choice([(), (2,), (3, 2), (1,)]))
        g.node("Gather", [x, g.constant(np.asarray(indices, g.draw.choice([np.int64, np.int32])))], [*x.shape[:axis], *indices.shape, *x.shape[axis + 1:]]
               if isinstance(indices, np.ndarray) else [*x.shape[:axis], *x.shape[axis + 1:]], bound=x.bound, exact=True, axis=written)
    else:
        shape = [g.draw.randrange(1, d + 1) for d in x.shape]
        shape[axis] = g.draw.randrange(1, 4)
        g.node("GatherElements", [x, g.constant(g.numbers.integers(-length, length, shape))], shape, bound=x.bound, exact=True, axis=written)


def pad(g):
    x = g.floats(lambda v: v.rank >= 1 and size(v.shape) > 0)
    if not x:
        return
    mode = g.draw.choice(["constant", "constant", "reflect", "edge"])
    most = [d - 1 if mode == "reflect" else 2 for d in x.shape]
    before, after = ([g.draw.randrange(0, min(m, 2) + 1) for m in most] for _ in range(2))
    shape = [d + b + a for d, b, a in zip(x.shape, before, after)]
    if size(shape) <= WIDEST:
        inputs = [x, g.ints(*before, *after)] + ([g.constant(np.array(0.25, x.dtype))] if mode == "constant" and g.draw.random() < 0.5 else [])
        g.node("Pad", inputs, shape, bound=x.bound + 1, exact=True, mode=mode)


def reduce(g):
    x = g.floats(lambda v: v.rank >= 1 and size(v.shape) > 0)
    if not x:
        return
    operator = g.draw.choice(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"])
    axes = g.draw.sample(range(x.rank), g.draw.randrange(1, x.rank + 1))
    keep = g.draw.randrange(2)
    shape = [1 if a in axes else d for a, d in enumerate(x.shape) if keep or a not in axes]
    given = [a - x.rank if g.draw.random() < 0.5 else a for a in axes]
    g.node(operator, [x, g.ints(*given)], shape, bound=(x.bound + 1) ** 2 * size(x.shape), exact=operator in ("ReduceMax", "ReduceMin"), keepdims=keep)


def arg_max(g):
    x = g.pick(lambda v: v.exact and v.dtype == np.float32 and v.rank >= 1 and size(v.shape) > 0)
    if x:
        axis, written = g.axis(x)
        keep = g.draw.randrange(2)
        g.node(g.draw.choice(["ArgMax", "ArgMin"]), [x], [1 if a == axis else d for a, d in enumerate(x.shape) if keep or a != axis], dtype=np.int64,
               bound=20, exact=True, axis=written, keepdims=keep)


def top_k(g):
    x = g.pick(lambda v: v.exact and v.dtype == np.float32 and v.rank >= 1 and size(v.shape) > 0)
    if x:
        axis, written = g.axis(x)
        k = g.draw.randrange(1, x.shape[axis] + 1)
        shape = [k if a == axis else d for a, d in enumerate(x.shape)]
        values = g.nodes_of("TopK", [x, g.ints(k)], [shape, shape], bound=x.bound, exact=True, axis=written, largest=g.draw.randrange(2))
        # Equal elements may be told apart by either index.
        values[1].exact, values[1].dtype = False, np.int64
        g.values.remove(values[1])


def cumulative(g):
    x = g.floats(lambda v: v.rank >= 1)
    if x and g.draw.random() < 0.5:
        axis, written = g.axis(x)
        g.node("CumSum", [x, g.constant(np.array(written))], x.shape, bound=x.bound * max(1, x.shape[axis]), exclusive=g.draw.randrange(2), reverse=g.draw.randrange(2))
    elif x and x.rank >= 2:
        g.node("Trilu", [x, g.constant(np.array(g.draw.randrange(-2, 3)))], x.shape, bound=x.bound, exact=True, upper=g.draw.randrange(2))


def softmax(g):
    x = g.floats(lambda v: v.rank >= 1)
    if x:
        _, written = g.axis(x)
        operator = g.draw.choice(["Softmax", "Softmax", "LogSoftmax"])
        g.node(operator, [x], x.shape, bound=1 if operator == "Softmax" else 100, axis=written)


def normalization(g):
    x = g.floats(lambda v: v.rank >= 2 and size(v.shape) > 0, dtypes=(np.float32,))
    if not x:
        return
    width = x.shape[-1]
    kind = g.draw.choice(["layer", "layer", "written out", "batch", "instance", "root mean square"])
    if kind == "layer":
        inputs = [x, g.weights(width)] + ([g.weights(width)] if g.draw.random() < 0.7 else [])
        g.node("LayerNormalization", inputs, x.shape, bound=10, axis=-1, epsilon=g.draw.choice([1e-2, 1e-3]))
    elif kind == "batch":
        channels = x.shape[1]
        variance = g.constant(g.numbers.uniform(0.5, 2, channels).astype(np.float32))
        g.node("BatchNormalization", [x, g.weights(channels), g.weights(channels), g.weights(channels), variance], x.shape, bound=4 * x.bound + 4)
    elif kind == "instance" and x.rank >= 3 and size(x.shape[2:]) > 2:
        g.node("InstanceNormalization", [x, g.weights(x.shape[1]), g.weights(x.shape[1])], x.shape, bound=20, epsilon=1e-2)
    else:
        narrow = (*x.shape[:-1], 1)
        if kind == "written out":
            mean = g.node("ReduceMean", [x, g.ints(-1)], narrow, bound=x.bound)
            x = g.node("Sub", [x, mean], x.shape, bound=2 * x.bound)
        square = g.node("Mul", [x, x], x.shape, bound=x.bound ** 2) if g.draw.random() < 0.5 else \
            g.node("Pow", [x, g.constant(np.array(2, np.float32))], x.shape, bound=x.bound ** 2)
        mean = g.node("ReduceMean", [square, g.ints(-1)], narrow)
        root = g.node("Sqrt", [g.node("Add", [mean, g.constant(np.array(1e-2, np.float32))], narrow)], narrow)
        y = g.node("Div", [x, root], x.shape, bound=10)
        g.node("Mul", [y, g.weights(width)], x.shape, bound=20)


def window(g):
    x = g.floats(lambda v: v.rank in (3, 4) and min(v.shape[2:]) >= 3 and 0 < size(v.shape) < 2048, dtypes=(np.float32,))
    if not x:
        return
    spatial, outputs = len(x.shape) - 2, g.draw.choice([1, 4, 6])
    pads, stride = g.draw.choice([0, 1]), g.draw.choice([1, 2])
    shape = [x.shape[0], outputs, *((d + 2 * pads - 3) // stride + 1 for d in x.shape[2:])]
    attributes = {"kernel_shape": [3] * spatial, "pads": [pads] * 2 * spatial, "strides": [stride] * spatial}
    if g.draw.random() < 0.5:
        inputs = [x, g.weights(outputs, x.shape[1], *[3] * spatial)] + ([g.weights(outputs)] if g.draw.random() < 0.5 else [])
        g.node("Conv", inputs, shape, bound=x.bound * 2 * 9 * x.shape[1] + 2, **attributes)
    else:
        shape[1] = x.shape[1]
        g.node(g.draw.choice(["MaxPool", "AveragePool"]), [x], shape, bound=x.bound, **attributes)


RECIPES = [transpose, transpose, reshape, reshape, reshape_by_shape, squeeze, expand, slice_, slice_, split, concat, concat, gather, gather, pad, reduce, reduce, reduce,
           arg_max, top_k, cumulative, softmax, softmax, normalization, normalization, normalization, window]
