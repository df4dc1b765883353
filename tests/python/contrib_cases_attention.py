"""Variants of the attention operators of com.microsoft."""
import dataclasses
import itertools

import numpy as np

from executor import Case, onnx_runtime

random = np.random.default_rng(20)


def normal(*shape, scale=1.0):
    return (random.standard_normal(shape) * scale).astype(np.float32)


def padded(batch, length):
    """1 for real positions; the first row is not padded, and no row is empty."""
    mask = np.ones((batch, length), np.int32)
    for row in range(1, batch):
        mask[row, max(1, length - row):] = 0
    return mask


def masks(batch, queries, keys):
    """Every form of mask_index."""
    lengths = np.array([max(1, keys - row) for row in range(batch)], np.int32)
    return {"none": None, "lengths": lengths, "ends and starts": np.concatenate([lengths, np.arange(batch, dtype=np.int32) % 2]),
            "rows": padded(batch, keys), "matrix": np.repeat(padded(batch, keys)[:, None], queries, 1)}


def attention():
    batch, hidden = 2, 12
    for causal, length, past in ((0, 5, 0), (1, 5, 0), (0, 3, 4), (1, 1, 6), (1, 3, 2)):
        for kind, mask in masks(batch, length, past + length).items():
            inputs = [normal(batch, length, hidden), normal(hidden, 3 * 16), normal(48), mask,
                      normal(2, batch, 4, past, 4) if past else None]
            yield Case("Attention", inputs, {"num_heads": 4, "unidirectional": causal}, (0, 1) if past else (0,), (1, 2), text=kind)
    for heads, sizes in ((1, (8, 8, 4)), (2, (8, 8, 12)), (3, (6, 6, 6)), (4, (16, 16, 4))):
        inputs = [normal(3, 7, hidden), normal(hidden, sum(sizes)), normal(sum(sizes))]
        yield Case("Attention", inputs, {"num_heads": heads, "qkv_hidden_sizes": sizes}, constants=(1, 2))
        # ONNX Runtime 1.31 crashes without a bias: zeros are the same.
        attributes = {"num_heads": heads, "qkv_hidden_sizes": sizes, "scale": 0.3}
        zeros = Case("Attention", inputs[:2] + [np.zeros(sum(sizes), np.float32)], attributes)
        yield Case("Attention", inputs[:2], attributes, reference=lambda zeros=zeros: {0: zeros.expected()["o0"]})
    for shape in ((2, 4, 5, 5), (1, 4, 5, 5), (2, 1, 5, 5), (1, 1, 5, 5)):
        inputs = [normal(batch, 5, hidden), normal(hidden, 48), normal(48), padded(batch, 5), None, normal(*shape)]
        yield Case("Attention", inputs, {"num_heads": 4}, constants=(1,))
        yield Case("Attention", inputs[:3] + [None] * 2 + inputs[5:], {"num_heads": 4, "unidirectional": 1}, (0, 1), (1, 2))
    yield Case("Attention", [normal(batch, 6, hidden), normal(hidden, 48), normal(48), padded(batch, 6)],
               {"num_heads": 4, "mask_filter_value": -20.0})


def multi_head_attention():
    batch, heads, size = 2, 3, 4
    hidden = heads * size
    for queries, keys, value in ((5, 5, 4), (2, 6, 4), (1, 3, 8)):
        for with_bias, causal in itertools.product((0, 1), (0, queries == keys)):
            forms = masks(batch, queries, keys)
            for kind in ("none", "rows", "lengths", "matrix"):
                bias = normal(2 * hidden + heads * value) if with_bias else None
                inputs = [normal(batch, queries, hidden), normal(batch, keys, hidden), normal(batch, keys, heads * value), bias, forms[kind]]
                yield Case("MultiHeadAttention", inputs, {"num_heads": heads, "unidirectional": int(causal)}, text=kind)
    for past, length in ((4, 1), (3, 2), (0, 3)):
        # A past of no rows is a past.
        for with_mask, with_bias in itertools.product((0, 1), (0, 1)):
            total = past + length
            inputs = [normal(batch, length, hidden), normal(batch, length, hidden), normal(batch, length, hidden),
                      normal(3 * hidden) if with_bias else None, padded(batch, total) if with_mask else None,
                      normal(1, heads, length, total) if with_bias else None, normal(batch, heads, past, size), normal(batch, heads, past, size)]
            case = Case("MultiHeadAttention", inputs, {"num_heads": heads}, (0, 1, 2))
            yield case
            # Without the caches as outputs: ONNX Runtime 1.31 then forgets the past.
            yield dataclasses.replace(case, outputs=(0,), reference=lambda case=case: {0: case.expected()["o0"]})
            yield Case("MultiHeadAttention", inputs, {"num_heads": heads, "unidirectional": 1, "scale": 0.4}, (0, 1, 2))
    # Keys and values of another sequence, in heads already.
    for with_bias in (0, 1):
        inputs = [normal(batch, 4, hidden), normal(batch, heads, 6, size), normal(batch, heads, 6, size), normal(3 * hidden) if with_bias else None]
        yield Case("MultiHeadAttention", inputs, {"num_heads": heads})
        yield Case("MultiHeadAttention", inputs[:4] + [padded(batch, 6)], {"num_heads": heads})
    for shape in ((2, 3, 5, 5), (1, 3, 5, 5), (2, 1, 5, 5), (1, 1, 5, 5)):
        inputs = [normal(batch, 5, hidden), normal(batch, 5, hidden), normal(batch, 5, hidden), None, None, normal(*shape)]
        yield Case("MultiHeadAttention", inputs, {"num_heads": heads}, constants=(5,))
        for causal in (0, 1):
            yield Case("MultiHeadAttention", inputs, {"num_heads": heads, "unidirectional": causal}, (0, 1, 2, 3), floats=(3,))
    yield from packed_multi_head_attention()


def packed_multi_head_attention():
    """Keys and values, or all three, in one tensor: ONNX Runtime's processor kernels want them apart."""
    batch, length, heads, size = 2, 5, 3, 4
    for bias in (None, normal(3 * heads * size)):
        q, k, v = (normal(batch, length, heads, size) for _ in range(3))

        def apart(q=q, k=k, v=v, bias=bias):
            flat = [x.reshape(batch, length, heads * size) for x in (q, k, v)]
            case = Case("MultiHeadAttention", flat + [bias], {"num_heads": heads})
            return {0: onnx_runtime(case.model(), case.feeds())["o0"]}

        yield Case("MultiHeadAttention", [np.stack([q, k, v], 3), None, None, bias], {"num_heads": heads}, reference=apart, text="packed query, key, value")
        if bias is None:
            yield Case("MultiHeadAttention", [q.reshape(batch, length, -1), np.stack([k, v], 3), None], {"num_heads": heads}, reference=apart,
                       text="packed key, value")


def tables(positions, half):
    angles = random.random((positions, half)).astype(np.float32) * 6
    return np.cos(angles), np.sin(angles)


def group_query_attention():
    """(batch, new rows, rows of past, length of the cache buffers, key lengths): prompts, single steps, padded batches."""
    for batch, rows, past, buffer, lengths in ((1, 5, 0, 0, [5]), (2, 5, 0, 0, [5, 5]), (2, 5, 0, 0, [5, 3]), (1, 1, 4, 4, [5]), (2, 1, 4, 4, [5, 5]),
                                               (2, 1, 4, 4, [5, 3]), (1, 3, 4, 4, [7]), (2, 1, 4, 9, [5, 3]), (1, 5, 0, 8, [5]), (1, 2, 3, 8, [5])):
        total = past + rows
        plain = {}
        for extra in (plain, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1}, {"local_window_size": 2}, {"softcap": 3.0}, {"scale": 0.3},
                      {"smooth_softmax": 1}, {"local_window_size": 3, "softcap": 2.0, "do_rotary": 1}):
            for packed in (0, 1):
                yield grouped(batch, rows, buffer, lengths, total, extra, packed)
        yield grouped(batch, rows, buffer, lengths, total, {"smooth_softmax": 1}, 0, bias=normal(1, 4, rows, total))
        yield grouped(batch, rows, buffer, lengths, total, plain, 1, bias=normal(batch, 1, rows, total))
        yield grouped(batch, rows, buffer, lengths, total, {"local_window_size": 2}, 0, sink=normal(4))
        yield grouped(batch, rows, buffer, lengths, total, {"do_rotary": 1}, 0, positions=True)
    yield grouped(1, 4, 0, [4], 4, {"causal": 0}, 0)
    for kind in (1, 2):
        yield grouped(2, 4, 0, [4, 4], 4, {"qk_output": kind}, 0)
        yield grouped(1, 1, 4, [5], 5, {"qk_output": kind, "softcap": 2.0}, 0)
        yield grouped(2, 5, 0, [5, 3], 5, {"qk_output": kind, "local_window_size": 2}, 1)
        yield grouped(2, 3, 0, [3, 3], 3, {"qk_output": kind, "smooth_softmax": 1}, 0, bias=normal(1, 4, 3, 3))


def grouped(batch, rows, buffer, lengths, total, extra, packed, bias=None, sink=None, positions=False):
    heads, key_heads, size = 4, 2, 8 if extra.get("do_rotary") is None else 16
    q, k, v = normal(batch, rows, heads * size), normal(batch, rows, key_heads * size), normal(batch, rows, key_heads * size)
    qkv = [np.concatenate([q, k, v], 2), None, None] if packed else [q, k, v]
    past = [normal(batch, key_heads, buffer, size), normal(batch, key_heads, buffer, size)]
    rotary = list(tables(total + 4, size // 2)) if extra.get("do_rotary") else [None, None]
    starts = [length - rows if total != rows else 0 for length in lengths]
    places = np.array([np.arange(rows) + start for start in starts], np.int64) if positions else None
    inputs = qkv + past + [np.array(lengths, np.int32) - 1, np.array(total, np.int32)] + rotary + [places, bias, sink]
    while inputs[-1] is None:
        inputs.pop()

    def valid(output, array):
        """Rows of padding and what lies behind them in the caches may hold anything."""
        parts = []
        for row, length in enumerate(lengths):
            queries = min(rows, length) if total == rows else rows
            part = {0: array[row, :queries]}.get(output, array[row, :, :length] if output < 3 else array[row, :, :queries, :length])
            parts.append(part.reshape(-1))
        return np.concatenate(parts)

    outputs = (0, 1, 2, 3) if extra.get("qk_output") else (0, 1, 2)
    case = Case("GroupQueryAttention", inputs, {"num_heads": heads, "kv_num_heads": key_heads, **extra}, outputs, valid=valid,
                floats=(3,), text=f"key lengths {lengths} of {total}")
    if not extra.get("scale"):
        return case
    # Without the caches as outputs: ONNX Runtime 1.31 then forgets the past.
    return dataclasses.replace(case, outputs=(0,), reference=lambda: {0: case.expected()["o0"]})


def rotary_embedding():
    batch, length, heads, size = 2, 5, 3, 8
    for interleaved, rank, positions in itertools.product((0, 1), (3, 4), ("first", "all")):
        cosines, sines = tables(12, size // 2)
        x = normal(batch, length, heads * size) if rank == 3 else normal(batch, heads, length, size)
        where = np.array([3], np.int64) if positions == "first" else random.integers(0, 12, (batch, length))
        yield Case("RotaryEmbedding", [x, where, cosines, sines], {"interleaved": interleaved})
        yield Case("RotaryEmbedding", [x, where, cosines, sines], {"interleaved": interleaved}, constants=(2, 3))
    for dimension, interleaved in itertools.product((2, 4, 6), (0, 1)):
        cosines, sines = tables(12, dimension // 2)
        yield Case("RotaryEmbedding", [normal(batch, length, heads * size), np.array([0], np.int64), cosines, sines],
                   {"interleaved": interleaved, "rotary_embedding_dim": dimension, "num_heads": heads})


def cases():
    yield from attention()
    yield from multi_head_attention()
    yield from group_query_attention()
    yield from rotary_embedding()
