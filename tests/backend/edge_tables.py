"""The corner cases of make_edge_cases.py, a function a family."""
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto as T

F32, F64, F16, I64 = np.float32, np.float64, np.float16, np.int64
FLOATS = F32, F64, F16
INTEGERS = np.int8, np.int16, np.int32, I64, np.uint8, np.uint16, np.uint32, np.uint64
NAN, INF = np.nan, np.inf


@dataclass
class Case:
    name: str
    operator: str
    inputs: list  # arrays; None where an input is left out
    attributes: dict = field(default_factory=dict)
    outputs: int = 1
    opset: int = 0  # 0: the default of make_edge_cases.py


def special(dtype):
    info = np.finfo(dtype)
    return np.array([NAN, INF, -INF, 0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, info.max, info.min, info.tiny], dtype)


def short(dtype):
    return np.dtype(dtype).name


def ints(*values):
    return np.array(values, I64)


def arithmetic():
    for dtype in F32, F64:
        x = special(dtype)
        pairs = [x[:, None], x[None, :]]
        for op in "Add", "Sub", "Mul", "Div", "Max", "Min", "Pow":
            yield Case(f"special_{op}_{short(dtype)}", op, pairs)
        yield Case(f"special_fmod_{short(dtype)}", "Mod", pairs, {"fmod": 1})
    yield Case("special_PRelu", "PRelu", [special(F32)[:, None] * np.ones(3, F32), np.array([0.5, -1, NAN], F32)])
    half = special(F16)
    for op in "Add", "Mul", "Max", "Min":
        yield Case(f"special_{op}_float16", op, [half[:, None], half[None, :]])
    for dtype in np.int32, I64:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        x = np.array([low, low + 1, -7, -1, 0, 1, 7, high], dtype)
        for op in "Add", "Sub", "Mul", "Max", "Min":
            yield Case(f"wrap_{op}_{short(dtype)}", op, [x[:, None], x[None, :]])
        divisors = np.array([-7, -3, -2, 1, 2, 3, 7], dtype)
        yield Case(f"truncate_Div_{short(dtype)}", "Div", [x[:, None], divisors])
        yield Case(f"power_{short(dtype)}", "Pow", [np.array([-3, -1, 0, 1, 2, 5], dtype)[:, None], np.array([0, 1, 2, 5], dtype)])
    for dtype in INTEGERS:
        signs = np.array([-7, -3, 3, 7] if np.iinfo(dtype).min < 0 else [1, 3, 7, 9], dtype)
        yield Case(f"sign_Mod_{short(dtype)}", "Mod", [signs[:, None], signs])
        yield Case(f"sign_fmod_{short(dtype)}", "Mod", [signs[:, None], signs], {"fmod": 1})
    yield Case("power_float_to_integer_exponent", "Pow", [np.array([-2, 0.5, 0, INF], F32)[:, None], ints(-2, 0, 1, 3)])
    yield Case("power_integer_to_float_exponent", "Pow", [np.array([0, 1, 2, 9], np.int32)[:, None], np.array([0, 0.5, 2], F32)])


def comparison():
    for dtype in F32, F64:
        x = special(dtype)
        for op in "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual":
            yield Case(f"special_{op}_{short(dtype)}", op, [x[:, None], x[None, :]])
    big = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    yield Case("special_Less_uint64", "Less", [big[:, None], big])
    for dtype in FLOATS:
        yield Case(f"special_IsNaN_{short(dtype)}", "IsNaN", [special(dtype)])
    for dtype in F32, F64:
        yield Case(f"special_IsInf_{short(dtype)}", "IsInf", [special(dtype)])
        yield Case(f"special_IsInf_negative_{short(dtype)}", "IsInf", [special(dtype)], {"detect_positive": 0})
    condition = np.array([[True], [False]])
    for dtype in F32, I64, np.uint8, np.int32:
        yield Case(f"broadcast_Where_{short(dtype)}", "Where", [condition, np.array(3, dtype), np.arange(4).astype(dtype)])


def functions():
    for dtype in F32, F64:
        x = special(dtype)
        for op in ("Abs", "Neg", "Sign", "Exp", "Log", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round", "Tanh", "Sigmoid", "Relu"):
            yield Case(f"special_{op}_{short(dtype)}", op, [x])
    x = special(F32)
    for op in ("Softplus", "Softsign", "LeakyRelu", "Elu", "Selu", "Celu", "Mish", "HardSigmoid", "HardSwish", "ThresholdedRelu", "Sin",
               "Cos", "Erf"):
        yield Case(f"special_{op}", op, [x])
    # At -inf ONNX Runtime's Gelu is NaN (-inf · 0), ours the limit 0.
    yield Case("special_Gelu", "Gelu", [x[x != -INF]])
    low, high = np.array(-1, F32), np.array(2, F32)
    for name, bounds in {"both": [low, high], "low": [low], "high": [None, high], "none": [], "crossed": [high, low],
                         "nan": [np.array(NAN, F32), high]}.items():
        yield Case(f"special_Clip_{name}", "Clip", [x, *bounds])
    for dtype in np.int8, np.uint8, np.int32, I64, np.uint64, F64:
        yield Case(f"bounds_Clip_{short(dtype)}", "Clip", [np.arange(10).astype(dtype), np.array(3, dtype), np.array(6, dtype)])
    for dtype in FLOATS:
        for op in "Relu", "Sigmoid", "Tanh":
            yield Case(f"scalar_{op}_{short(dtype)}", op, [np.array(-0.75, dtype)])


def casts():
    x = np.array([-300, -129, -9, -3.5, -0.5, 0, 0.5, 1.5, 7.9, 127, 128, 255, 256, 65535, 65536, 70000], F32)
    beyond = np.array([1e10, -1e10, INF, -INF, NAN, 3e38, -3e38, 2147483648, -2147483648], F32)
    for target in "INT8", "UINT8", "INT16", "UINT16", "INT32", "INT64", "BOOL", "FLOAT16", "DOUBLE":
        for source in FLOATS:
            yield Case(f"Cast_{short(source)}_to_{target}", "Cast", [np.concatenate([x, beyond]).astype(source)], {"to": getattr(T, target)})
    wide = np.array([-2**40, -2**31 - 1, -32769, -129, -1, 0, 1, 127, 128, 255, 256, 65535, 65536, 2**31, 2**53 + 1, 2**62], I64)
    for target in "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "UINT64", "BOOL", "FLOAT", "FLOAT16", "DOUBLE":
        yield Case(f"Cast_int64_to_{target}", "Cast", [wide], {"to": getattr(T, target)})
    for target in "INT64", "FLOAT", "FLOAT16", "DOUBLE", "UINT8":
        yield Case(f"Cast_bool_to_{target}", "Cast", [np.array([True, False])], {"to": getattr(T, target)})
    yield Case("Cast_uint64_to_FLOAT", "Cast", [np.array([0, 2**63, 2**64 - 1], np.uint64)], {"to": T.FLOAT})
    yield Case("Cast_empty", "Cast", [np.zeros((0, 3), F32)], {"to": T.INT64})


def softmax_family():
    rows = np.array([[1, 2, 3], [NAN, 1, 2], [INF, 1, 2], [-INF, 1, 2], [-INF, -INF, -INF], [INF, INF, 0], [1000, 0, -1000]], F32)
    for dtype in F32, F64:
        # ONNX Runtime's LogSoftmax of float64 rows with infinities is not one: a row of -inf gives 45.05.
        for op in ("Softmax", "LogSoftmax") if dtype == F32 else ("Softmax",):
            yield Case(f"special_{op}_{short(dtype)}", op, [rows.astype(dtype)])
            yield Case(f"first_axis_{op}_{short(dtype)}", op, [rows.astype(dtype)], {"axis": 0})
    for op in "Softmax", "LogSoftmax", "Hardmax":
        yield Case(f"empty_rows_{op}", op, [np.zeros((0, 4), F32)])
        yield Case(f"one_{op}", op, [np.array([[3]], F32)])
    yield Case("flattened_Softmax", "Softmax", [np.arange(24).reshape(2, 3, 4).astype(F32)], {"axis": 1}, opset=11)
    yield Case("ties_Hardmax", "Hardmax", [np.array([[1, 3, 3], [2, 2, 2]], F32)])


def reductions():
    rows = np.array([[1, 2, 3], [NAN, 1, 2], [INF, 1, -2], [-INF, 1, 2], [INF, -INF, 0]], F32)
    names = ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
             "ReduceLogSumExp")
    x = np.arange(1, 25).reshape(2, 3, 4)
    for op in names:
        yield Case(f"special_{op}", op, [rows, ints(1)], opset=18)
        yield Case(f"all_{op}", op, [x.astype(F32)], opset=18)
        yield Case(f"last_{op}", op, [x.astype(F32), ints(-1)], {"keepdims": 0}, opset=18)
        yield Case(f"outer_{op}", op, [x.astype(F32), ints(0, 2)], opset=18)
        yield Case(f"none_{op}", op, [x.astype(F32), np.zeros(0, I64)], {"noop_with_empty_axes": 1}, opset=18)
        yield Case(f"scalar_{op}", op, [np.array(2, F32)], opset=18)
        yield Case(f"empty_result_{op}", op, [np.zeros((0, 3), F32), ints(1)], opset=18)
    for op in "ReduceSum", "ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceL2":
        yield Case(f"empty_axis_{op}", op, [np.zeros((2, 0, 3), F32), ints(1)], opset=18)
    for dtype in np.int32, I64, F64:
        for op in "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd":
            yield Case(f"type_{op}_{short(dtype)}", op, [(x % 5 + 1).astype(dtype), ints(2)], opset=18)
    for dtype in np.int8, np.uint8:
        for op in "ReduceMax", "ReduceMin":
            yield Case(f"type_{op}_{short(dtype)}", op, [x.astype(dtype), ints(2)], opset=18)
    ties = np.array([[1, 3, 3], [2, 2, 2], [-1, -1, -5]], F32)
    for op in "ArgMax", "ArgMin":
        yield Case(f"ties_{op}", op, [ties], {"axis": 1})
        yield Case(f"last_ties_{op}", op, [ties], {"axis": 1, "select_last_index": 1})
        yield Case(f"special_{op}", op, [rows], {"axis": 1, "keepdims": 0})
        yield Case(f"integers_{op}", op, [x.astype(np.int32)], {"axis": -2})
        yield Case(f"empty_result_{op}", op, [np.zeros((0, 3), F32)], {"axis": 1})
    for reverse in 0, 1:
        for exclusive in 0, 1:
            yield Case(f"CumSum_{reverse}{exclusive}", "CumSum", [x.astype(F32), np.array(1, np.int32)], {"reverse": reverse, "exclusive": exclusive})
    yield Case("empty_CumSum", "CumSum", [np.zeros((2, 0), F32), np.array(1, np.int32)])
    yield Case("ties_TopK", "TopK", [ties, ints(2)], {"axis": 1}, outputs=2)
    yield Case("smallest_TopK", "TopK", [ties, ints(2)], {"axis": 0, "largest": 0}, outputs=2)
    yield Case("none_TopK", "TopK", [ties, ints(0)], {"axis": 1}, outputs=2)
    yield Case("infinite_TopK", "TopK", [np.array([[1, INF, -INF, 2, INF]], F32), ints(4)], outputs=2)


def products():
    random = np.random.default_rng(3)

    def normal(*shape):
        return random.standard_normal(shape).astype(F32)

    for name, a, b in (("vectors", (5,), (5,)), ("row", (5,), (5, 3)), ("column", (3, 5), (5,)), ("batched_vector", (4, 3, 5), (5,)),
                       ("broadcast", (4, 1, 3, 5), (2, 5, 6)), ("no_rows", (0, 5), (5, 3)), ("no_depth", (2, 0), (0, 3)),
                       ("no_batch", (0, 2, 3), (0, 3, 4)), ("broadcast_no_batch", (0, 2, 3), (3, 4)), ("one", (1, 1), (1, 1))):
        yield Case(f"MatMul_{name}", "MatMul", [normal(*a), normal(*b)])
    for dtype in np.int32, I64, np.uint32, np.uint64, F64:
        yield Case(f"MatMul_{short(dtype)}", "MatMul", [np.arange(6).reshape(2, 3).astype(dtype), np.arange(12).reshape(3, 4).astype(dtype)])
    special_rows = np.array([[1, NAN], [INF, 1], [0, 0]], F32)
    yield Case("MatMul_special", "MatMul", [special_rows, np.array([[1, 0, -1], [2, 0, 1]], F32)])
    yield Case("Gemm_no_rows", "Gemm", [normal(0, 4), normal(4, 3), normal(3)])
    yield Case("Gemm_no_depth", "Gemm", [normal(2, 0), normal(0, 3), normal(3)])
    for name, c in (("scalar", ()), ("row", (1, 3)), ("column", (2, 1)), ("vector", (3,))):
        yield Case(f"Gemm_bias_{name}", "Gemm", [normal(2, 4), normal(4, 3), normal(*c)], {"alpha": 0.5, "beta": 2.0})
    yield Case("Gemm_transposed", "Gemm", [normal(4, 2), normal(3, 4)], {"transA": 1, "transB": 1})
    for name, equation, shapes in (("trace", "ii->i", [(3, 3)]), ("sum", "ij->", [(2, 3)]), ("outer", "i,j->ij", [(2,), (3,)]),
                                   ("ellipsis", "...ij,...jk->...ik", [(2, 1, 3, 4), (2, 5, 4, 2)]), ("heads", "bqhd,bkhd->bhqk", [(2, 3, 2, 4), (2, 5, 2, 4)]),
                                   ("implicit", "ij,jk", [(2, 3), (3, 4)]), ("empty", "ij,jk->ik", [(2, 0), (0, 3)])):
        yield Case(f"Einsum_{name}", "Einsum", [normal(*s) for s in shapes], {"equation": equation})
    yield Case("Conv_no_batch", "Conv", [normal(0, 3, 5, 5), normal(4, 3, 3, 3)])
    yield Case("LayerNormalization_no_rows", "LayerNormalization", [normal(0, 4), normal(4), normal(4)], {"axis": -1})
    yield Case("LayerNormalization_constant_row", "LayerNormalization", [np.full((2, 4), 3, F32), normal(4), normal(4)], {"axis": -1})
    yield Case("LayerNormalization_special", "LayerNormalization", [np.array([[1, NAN, 2], [1, INF, 2], [1, 2, 3]], F32), normal(3), normal(3)], {"axis": -1})
    a8, b8 = random.integers(0, 256, (3, 5)).astype(np.uint8), random.integers(-128, 128, (5, 4)).astype(np.int8)
    yield Case("MatMulInteger_zero_points", "MatMulInteger", [a8, b8, np.array(200, np.uint8), np.array([-128, 0, 7, 127], np.int8)])
    yield Case("MatMulInteger_no_rows", "MatMulInteger", [a8[:0], b8])


def quantization():
    x = np.array([NAN, INF, -INF, 0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 128, -129, 255.5, 1e10, -1e10, 32768, -32769, 65536], F32)
    for dtype in np.int8, np.uint8, np.int16, np.uint16:
        point = np.array(3, dtype)
        yield Case(f"QuantizeLinear_{short(dtype)}", "QuantizeLinear", [x[3:], np.array(1, F32), point])
        everything = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, 257 if np.dtype(dtype).itemsize == 2 else 1).astype(dtype)
        yield Case(f"DequantizeLinear_{short(dtype)}", "DequantizeLinear", [everything, np.array(0.1, F32), point])
    yield Case("QuantizeLinear_infinite", "QuantizeLinear", [x[1:3], np.array(0.5, F32), np.array(3, np.uint8)])
    yield Case("QuantizeLinear_empty", "QuantizeLinear", [np.zeros((0, 2), F32), np.array(1, F32), np.array(3, np.uint8)])
    for name, values in (("positive", [1, 2, 3]), ("negative", [-1, -2, -3]), ("zeros", [0, 0, 0]), ("ties", [0, 0.5, 1.5, 2.5, 255]), ("one", [5])):
        yield Case(f"DynamicQuantizeLinear_{name}", "DynamicQuantizeLinear", [np.array(values, F32)], outputs=3)


def plumbing():
    for dtype in (*FLOATS, *INTEGERS, np.bool_):
        x = (np.arange(24) % 7).reshape(2, 3, 4).astype(dtype)
        kind = short(dtype)
        yield Case(f"Transpose_{kind}", "Transpose", [x], {"perm": [2, 0, 1]})
        yield Case(f"Concat_{kind}", "Concat", [x, x[:, :1], x[:, :0]], {"axis": 1})
        yield Case(f"Slice_{kind}", "Slice", [x, ints(-1, 0), ints(-100, 100), ints(0, 2), ints(-1, 2)])
        yield Case(f"Gather_{kind}", "Gather", [x, ints(-1, 0)], {"axis": 1})
        yield Case(f"Expand_{kind}", "Expand", [x[:, :1], ints(2, 1, 3, 1)])
        yield Case(f"Squeeze_{kind}", "Squeeze", [x[:, :1], ints(-2)])
        yield Case(f"Split_{kind}", "Split", [x], {"axis": 2, "num_outputs": 2}, outputs=2)
        yield Case(f"Identity_{kind}", "Identity", [x])
        if dtype not in (np.uint16, np.uint32, np.uint64, np.int16):
            yield Case(f"Tile_{kind}", "Tile", [x, ints(1, 2, 0)])
    x = np.arange(24).reshape(2, 3, 4).astype(F32)
    empty = np.zeros((0, 3), F32)
    yield Case("Reshape_zero_copies", "Reshape", [x, ints(0, -1)])
    yield Case("Reshape_to_scalar", "Reshape", [np.array([[5]], F32), np.zeros(0, I64)])
    yield Case("Reshape_allowzero", "Reshape", [empty, ints(3, 0)], {"allowzero": 1})
    yield Case("Reshape_empty", "Reshape", [np.zeros((2, 0), F32), ints(0, 5, 0)], {"allowzero": 1})
    yield Case("Flatten_first", "Flatten", [x], {"axis": 0})
    yield Case("Flatten_empty", "Flatten", [np.zeros((0, 3, 2), F32)], {"axis": 2})
    yield Case("Unsqueeze_scalar", "Unsqueeze", [np.array(2, F32), ints(0, -1)])
    yield Case("Squeeze_all", "Squeeze", [np.array([[[2]]], F32)])
    yield Case("Shape_part", "Shape", [x], {"start": -2, "end": 100})
    yield Case("Shape_scalar", "Shape", [np.array(1, F32)])
    yield Case("Size_empty", "Size", [empty])
    yield Case("Transpose_empty", "Transpose", [empty])
    yield Case("Transpose_scalar", "Transpose", [np.array(1, F32)])
    yield Case("Concat_empty", "Concat", [empty, empty], {"axis": 0})
    yield Case("Expand_scalar", "Expand", [np.array(7, F32), ints(2, 3)])
    yield Case("Expand_to_nothing", "Expand", [np.ones((1, 3), F32), ints(0, 3)])
    yield Case("Gather_scalar_index", "Gather", [x, np.array(-1, I64)], {"axis": 2})
    yield Case("Gather_no_index", "Gather", [x, np.zeros((2, 0), I64)], {"axis": 1})
    yield Case("Gather_int32_index", "Gather", [x, np.array([[1, 0]], np.int32)])
    yield Case("GatherElements_negative", "GatherElements", [x, ints(-1, 0).reshape(1, 2, 1)], {"axis": 1})
    yield Case("GatherND_batch", "GatherND", [x, ints(0, 2).reshape(2, 1)], {"batch_dims": 1})
    yield Case("Slice_nothing", "Slice", [x, ints(2), ints(1), ints(1)])
    yield Case("Slice_extremes", "Slice", [x, ints(2**63 - 1), ints(-2**63), ints(1), ints(-1)])
    yield Case("Slice_default_axes", "Slice", [x, ints(1, 0), ints(2, 2)])
    yield Case("Split_uneven", "Split", [np.arange(7).astype(F32)], {"num_outputs": 3}, outputs=3)
    yield Case("Split_with_nothing", "Split", [np.arange(7).astype(F32), ints(3, 0, 4)], outputs=3)
    yield Case("ScatterND_nothing", "ScatterND", [x, np.zeros((0, 1), I64), np.zeros((0, 3, 4), F32)])
    yield Case("ScatterND_add_twice", "ScatterND", [x, ints(1, 1).reshape(2, 1), np.ones((2, 3, 4), F32)], {"reduction": "add"})
    for reduction in "none", "add", "mul", "max", "min":
        yield Case(f"ScatterElements_{reduction}", "ScatterElements", [x, ints(-1, 0).reshape(1, 2, 1), np.full((1, 2, 1), 9, F32)],
                   {"axis": 1, "reduction": reduction})
    for mode in "constant", "edge", "reflect", "wrap":
        yield Case(f"Pad_{mode}", "Pad", [x, ints(0, 1, 2, 0, 1, 3)], {"mode": mode}, opset=19)
    yield Case("Pad_negative", "Pad", [x, ints(0, -1, 1, 0, 0, -2), np.array(5, F32)])
    yield Case("Pad_axes", "Pad", [x, ints(1, 2), np.array(5, F32), ints(-1)])
    yield Case("Range_nothing", "Range", [np.array(3, I64), np.array(3, I64), np.array(1, I64)])
    yield Case("Range_down", "Range", [np.array(5, F32), np.array(0, F32), np.array(-1.5, F32)])
    yield Case("ConstantOfShape_scalar", "ConstantOfShape", [np.zeros(0, I64)])
    yield Case("ConstantOfShape_nothing", "ConstantOfShape", [ints(2, 0)])
    yield Case("NonZero_nothing", "NonZero", [np.zeros((2, 3), F32)])
    yield Case("NonZero_nan", "NonZero", [np.array([[NAN, 0], [-0.0, 1]], F32)])
    yield Case("OneHot_out_of_range", "OneHot", [ints(-4, -3, 0, 2, 3), np.array(3, I64), np.array([0, 1], F32)])
    yield Case("OneHot_nothing", "OneHot", [np.zeros((0,), I64), np.array(3, I64), np.array([0, 1], F32)])
    for k in -5, -1, 1, 5:
        yield Case(f"Trilu_{k}", "Trilu", [x, np.array(k, I64)], {"upper": 0})
    yield Case("Trilu_empty", "Trilu", [np.zeros((2, 0), F32)])
    yield Case("Compress_flat", "Compress", [x, np.array([True, False, True])])
    yield Case("Unique_all", "Unique", [np.array([2, 1, 1, 3, 2], F32)], outputs=4)
    yield Case("EyeLike_offset", "EyeLike", [np.zeros((3, 4), F32)], {"k": -1})


def broadcasting():
    one = np.array([2], F32)
    for name, a, b in (("scalars", (), ()), ("scalar_vector", (), (3,)), ("one_nothing", (1,), (0,)), ("nothing_scalar", (0, 3), ()),
                       ("outer", (3, 1), (1, 4)), ("inner", (2, 1, 4), (3, 1)), ("ranks", (5,), (2, 3, 1, 5)), ("both", (1, 3, 1), (2, 1, 4))):
        x, y = np.full(a, 3, F32), np.arange(np.prod(b, dtype=int)).reshape(b).astype(F32)
        for op in "Add", "Sub", "Max", "Less":
            yield Case(f"broadcast_{op}_{name}", op, [x, y])
        yield Case(f"broadcast_Where_{name}", "Where", [np.asarray(x > 2), x, y])
    for op in "Sum", "Mean", "Max", "Min":
        yield Case(f"one_operand_{op}", op, [one])
        yield Case(f"three_operands_{op}", op, [np.arange(3).astype(F32), one, np.arange(6).reshape(2, 3).astype(F32)])
    for op in "And", "Or", "Xor":
        yield Case(f"broadcast_{op}", op, [np.array([[True], [False]]), np.array([True, False])])
    for dtype in INTEGERS:
        for op in "Add", "Sub", "Mul":
            yield Case(f"type_{op}_{short(dtype)}", op, [np.array([100, 3], dtype), np.array([100, 2], dtype)])
        yield Case(f"type_Equal_{short(dtype)}", "Equal", [np.array([100, 3], dtype), np.array([100, 2], dtype)])


TABLES = [arithmetic, comparison, functions, casts, softmax_family, reductions, products, quantization, plumbing, broadcasting]
