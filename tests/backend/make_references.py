#!/usr/bin/env python3
"""Writes tests/data/exec: inputs of the models in tests/data/models and what ONNX Runtime makes of them."""
import pathlib

import numpy as np
import onnxruntime as ort

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
RANDOM = np.random.default_rng(7)


def ids(batch, length, bound):
    return RANDOM.integers(1, bound, (batch, length)).astype(np.int64)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def padded_mask(batch, length):
    mask = np.ones((batch, length), np.int64)
    for row in range(1, batch):
        mask[row, max(1, length - 2 * row):] = 0
    return mask


def cached(layers, heads, past, length):
    feeds = {"input_ids": ids(2, length, 95), "attention_mask": np.ones((2, past + length), np.int64)}
    for layer in range(layers):
        for kind in ("key", "value"):
            feeds[f"past_key_values.{layer}.{kind}"] = normal(2, heads, past, 16)
    return feeds


def bert():
    return {"input_ids": ids(2, 7, 99), "attention_mask": padded_mask(2, 7), "token_type_ids": np.zeros((2, 7), np.int64)}


def references():
    yield "bert_tiny", "bert_tiny", bert()
    yield "bert_tiny_fused", "bert_tiny_fused", bert()
    yield "vit_digits", "vit_digits", {"pixel_values": RANDOM.random((3, 1, 8, 8), np.float32)}
    yield "vit_mnist5k", "vit_mnist5k", {"pixel_values": RANDOM.random((2, 1, 28, 28), np.float32)}
    for model in ("gpt2_char", "llama_char"):
        yield model, model, {"input_ids": ids(2, 13, 95)}
    for past, length in ((0, 4), (5, 1), (3, 2)):
        yield "gpt2_char_kv", f"gpt2_char_kv.past{past}", cached(4, 4, past, length)
        yield "llama_char_kv", f"llama_char_kv.past{past}", cached(6, 2, past, length)
    mask = padded_mask(2, 11)
    yield "t5_char_encoder", "t5_char_encoder", {"input_ids": ids(2, 11, 95), "attention_mask": mask}
    yield "t5_char_decoder", "t5_char_decoder", {
        "input_ids": ids(2, 9, 95), "encoder_hidden_states": normal(2, 11, 96), "encoder_attention_mask": mask}


def main():
    target = DATA / "exec"
    target.mkdir(exist_ok=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for model, name, feeds in references():
        session = ort.InferenceSession(str(DATA / "models" / f"{model}.onnx"), options, providers=["CPUExecutionProvider"])
        outputs = session.run(None, feeds)
        np.savez(target / f"{name}.feeds.npz", **feeds)
        np.savez(target / f"{name}.expected.npz", **{o.name: v for o, v in zip(session.get_outputs(), outputs)})
        print(name, [v.shape for v in outputs][:2])


if __name__ == "__main__":
    main()
