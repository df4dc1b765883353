"""Random ONNX graphs of supported operators, for test_random_graphs.py: the same graph for the same seed.

A graph grows node by node from a few inputs. Every value knows its shape and type, a bound of its magnitude (what grows too
large goes through Tanh first), and whether it is exact: bit by bit the same in every implementation. Only exact values reach
operators that jump (comparisons, roundings, casts to integers, sorting)."""
import random
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
FLOATS, INTEGERS = (np.float32, np.float64), (np.int64, np.int32)


@dataclass
class Value:
    name: str
    shape: tuple
    dtype: type
    bound: float = 1.0
    exact: bool = True
    constant: bool = False  # an initializer

    @property
    def rank(self):
        return len(self.shape)

    @property
    def floating(self):
        return np.issubdtype(self.dtype, np.floating)


class GraphBuilder:
    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.tolerance = None  # where the graph's own roundings are coarse
        self.nodes, self.constants, self.inputs, self.values, self.feeds = [], [], [], [], {}

    def fresh(self):
        return f"v{len(self.nodes)}_{len(self.constants)}_{len(self.inputs)}"

    def random_array(self, shape, dtype):
        if dtype == bool:
            return np.asarray(self.numbers.random(shape) > 0.5)
        if np.issubdtype(dtype, np.floating):
            return np.asarray(self.numbers.uniform(-2, 2, shape), dtype)
        return np.asarray(self.numbers.integers(-5, 9, shape), dtype)

    def input(self, shape, dtype):
        value = Value(f"x{len(self.inputs)}", tuple(shape), dtype, 10.0)
        self.inputs.append(value)
        self.values.append(value)
        self.feeds[value.name] = self.random_array(shape, dtype)
        return value

    def constant(self, array, bound=10.0):
        array = np.asarray(array)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return Value(name, array.shape, array.dtype.type, bound, constant=True)

    def weights(self, *shape, dtype=np.float32):
        return self.constant(self.random_array(shape, dtype), 2.0)

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def node(self, operator, inputs, shape, dtype=None, bound=1.0, exact=False, **attributes):
        """Adds a node of one output; the type is the first input's unless given."""
        return self.nodes_of(operator, inputs, [tuple(shape)], dtype, bound, exact, **attributes)[0]

    def nodes_of(self, operator, inputs, shapes, dtype=None, bound=1.0, exact=False, **attributes):
        exact = exact and all(v.exact for v in inputs if v)
        outputs = [Value(f"{self.fresh()}_{k}", tuple(shape), dtype or inputs[0].dtype, bound, exact) for k, shape in enumerate(shapes)]
        self.nodes.append(helper.make_node(operator, [v.name if v else "" for v in inputs], [v.name for v in outputs], name=f"n{len(self.nodes)}", **attributes))
        self.values += outputs
        return outputs

    def pick(self, wanted=lambda value: True):
        """A value that is wanted, the newest ones more often; None when there is none."""
        known = [v for v in self.values if wanted(v)]
        if not known:
            return None
        return known[max(self.draw.randrange(len(known)), self.draw.randrange(len(known)))]

    def calm(self, value, largest=50.0):
        """The value, through Tanh when it may be large."""
        return value if value.bound <= largest else self.node("Tanh", [value], value.shape)

    def floats(self, wanted=lambda value: True, dtypes=FLOATS):
        found = self.pick(lambda v: v.dtype in dtypes and wanted(v))
        return found and self.calm(found)

    def axis(self, value):
        """One of its axes, counted from either end."""
        axis = self.draw.randrange(value.rank)
        return axis, axis - value.rank if self.draw.random() < 0.5 else axis

    def partner(self, value):
        """A value or constant of the same type that broadcasts with it."""
        def fits(other):
            return other.dtype == value.dtype and compatible(other.shape, value.shape)
        other = self.pick(fits) if self.draw.random() < 0.6 else None
        if other:
            return self.calm(other) if other.floating else other
        shape = [d if self.draw.random() < 0.7 else 1 for d in value.shape][self.draw.randrange(value.rank + 1):]
        return self.weights(*shape, dtype=value.dtype)

    def model(self, outputs=None):
        """`outputs`: names; left out, what no node reads and a few others."""
        read = {name for node in self.nodes for name in node.input}
        produced = {name: v for v in self.values for name in [v.name]}
        inputs = {v.name for v in self.inputs}
        if outputs is None:
            # A rounding that may flip shows as one step of an integer: those are judged behind their dequantization.
            steady = [v for v in self.values if v.name not in inputs and (v.floating or v.exact or v.dtype == bool)]
            outputs = [v.name for v in steady if v.name not in read or self.draw.random() < 0.1]
        described = [helper.make_tensor_value_info(v.name, helper.np_dtype_to_tensor_dtype(np.dtype(v.dtype)), self.declared(v)) for v in self.inputs]
        typed = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(produced[name].dtype)), [None] * produced[name].rank) for name in outputs]
        graph = helper.make_graph(self.nodes, "random", described, typed, self.constants)
        return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", OPSET)])

    def declared(self, value):
        """Some models declare sizes, some leave them open."""
        return [d if self.draw.random() < 0.3 else f"{value.name}_{axis}" for axis, d in enumerate(value.shape)]


def compatible(a, b):
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b)))


def broadcast(*values):
    return np.broadcast_shapes(*(v.shape for v in values))


def random_graph(seed, recipes, largest=24):
    """A builder that holds a graph of up to `largest` nodes."""
    g = GraphBuilder(seed)
    for _ in range(g.draw.randrange(1, 4)):
        rank = g.draw.choice([0, 1, 2, 2, 3, 3, 3, 4])
        shape = [g.draw.choice([1, 2, 3, 4, 5, 7, 8, 16]) for _ in range(rank)]
        if rank and g.draw.random() < 0.04:
            shape[g.draw.randrange(rank)] = 0
        g.input(shape, g.draw.choice([np.float32] * 8 + [np.float64, np.int64, np.int32, bool]))
    if not any(v.dtype == np.float32 for v in g.inputs):
        g.input([2, 3, 8], np.float32)
    size, tries = g.draw.randrange(2, largest), 0
    while len(g.nodes) < size and tries < 200:
        g.draw.choice(recipes)(g)
        tries += 1
    return g
