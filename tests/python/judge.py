#!/usr/bin/env python3
"""ONNX Runtime as the judge of tcompress's files: runs models, compares outputs, measures fidelity, accuracy and speed.

Results go to stdout as one JSON object; the exit code is 0 when the question is answered with yes, 1 with no, 2 when
it could not be asked. Feeds are .npz files whose arrays are called as the model's inputs (further arrays are ignored),
the first axis counts samples.
"""
import argparse
import json
import sys
import time

import numpy as np
import onnxruntime as ort

OPTIMIZATION = {"none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL, "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL}


class JudgeError(Exception):
    pass


def load(model, threads=1, optimization="all"):
    """`model` is a path, or the bytes of a model."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = OPTIMIZATION[optimization]
    options.log_severity_level = 3
    return ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"])


def feed_for(session, arrays):
    missing = [i.name for i in session.get_inputs() if i.name not in arrays]
    if missing:
        raise JudgeError(f"the feed lacks {missing}; it has {sorted(arrays)}")
    return {i.name: arrays[i.name] for i in session.get_inputs()}


def run(session, arrays, batch=0):
    """Outputs by name. With a batch size the samples go through in pieces, joined again along the first axis."""
    feed, names = feed_for(session, arrays), [o.name for o in session.get_outputs()]
    count = len(next(iter(feed.values())))
    if not batch or batch >= count:
        return dict(zip(names, session.run(None, feed)))
    pieces = [session.run(None, {name: array[start:start + batch] for name, array in feed.items()})
              for start in range(0, count, batch)]
    return {name: np.concatenate([piece[k] for piece in pieces]) for k, name in enumerate(names)}


def differences(expected, actual):
    """Per array: the largest difference divided by the range of the expected values; 0 or infinity for other types."""
    result = {}
    for name, want in expected.items():
        have = actual.get(name)
        if have is None or have.shape != want.shape or have.dtype != want.dtype:
            result[name] = float("inf")
        elif want.size == 0 or np.array_equal(want, have, equal_nan=True):
            result[name] = 0.0
        elif not np.issubdtype(want.dtype, np.floating):
            result[name] = float("inf")
        elif not np.array_equal(np.isfinite(want), np.isfinite(have)):
            result[name] = float("inf")
        else:
            finite = np.isfinite(want)
            a, b = want[finite].astype(np.float64), have[finite].astype(np.float64)
            same_rest = np.array_equal(want[~finite], have[~finite], equal_nan=True)
            spread = (a.max() - a.min() or np.abs(a).max() or 1.0) if a.size else 1.0
            result[name] = float(np.abs(a - b).max(initial=0) / spread) if same_rest else float("inf")
    return result


def pick_output(session, name, rank):
    """The named output, or the first float output of that rank."""
    outputs = {o.name: o for o in session.get_outputs()}
    if name:
        if name not in outputs:
            raise JudgeError(f"no output '{name}'; there are {sorted(outputs)}")
        return name
    for output in outputs.values():
        if output.type.startswith("tensor(float") and output.shape is not None and len(output.shape) == rank:
            return output.name
    raise JudgeError(f"no float output of rank {rank} among {sorted(outputs)}")


def masked_mean(states, mask):
    weights = mask.astype(np.float64)[:, :, None]
    return (states * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)


def unit_rows(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def nearest_other(rows):
    similarity = unit_rows(rows) @ unit_rows(rows).T
    np.fill_diagonal(similarity, -2)
    return similarity.argmax(1)


# Batches of 32 everywhere: a dynamically quantized model's scales come from the whole batch, so its figures depend on it.
def embeddings(path, arrays, output=None, batch=32, threads=1):
    session = load(path, threads)
    name = pick_output(session, output, 3)
    return masked_mean(run(session, arrays, batch)[name], arrays["attention_mask"])


def fidelity(original, compressed):
    """Of two sets of sentence embeddings: mean cosine, its worst, and how often the nearest other sentence stays."""
    cosine = (unit_rows(original) * unit_rows(compressed)).sum(1)
    return {"cosine": float(cosine.mean()), "cosine_min": float(cosine.min()),
            "agreement": float((nearest_other(original) == nearest_other(compressed)).mean()), "samples": len(cosine)}


def predictions(logits, labels):
    """Predicted classes at the positions whose label counts (-100 marks the others), and those labels."""
    counted = labels != -100
    return logits.argmax(-1)[counted], labels[counted]


def cross_entropy(logits, labels):
    counted = labels != -100
    rows = logits[counted].astype(np.float64)
    rows -= rows.max(-1, keepdims=True)
    log_probability = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    return float(-log_probability[np.arange(len(rows)), labels[counted]].mean())


def logits_of(path, arrays, output=None, batch=32, threads=1):
    session = load(path, threads)
    return run(session, arrays, batch)[pick_output(session, output, arrays["labels"].ndim + 1)]


def accuracy(path, arrays, **how):
    logits = logits_of(path, arrays, **how)
    predicted, labels = predictions(logits, arrays["labels"])
    return {"accuracy": float((predicted == labels).mean()), "correct": int((predicted == labels).sum()),
            "samples": len(labels), "cross_entropy": cross_entropy(logits, arrays["labels"])}


def paired(original, compressed, arrays, **how):
    """Accuracies of two models on the same labels, and on how many their predictions agree."""
    first, labels = predictions(logits_of(original, arrays, **how), arrays["labels"])
    second, _ = predictions(logits_of(compressed, arrays, **how), arrays["labels"])
    difference = (second == labels).astype(np.float64) - (first == labels)
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    return {"original": float((first == labels).mean()), "compressed": float((second == labels).mean()),
            "difference": float(difference.mean()), "difference_95": [float(difference.mean() - half), float(difference.mean() + half)],
            "agreement": float((first == second).mean()), "samples": len(labels)}


def latency(paths, feed, threads=1, rounds=30, warmup=3):
    """Median seconds a run of each model, in turns, so that a slow spell of the machine hits all of them."""
    sessions = [load(path, threads) for path in paths]
    feeds = [feed_for(session, feed) for session in sessions]
    times = [[] for _ in paths]
    for turn in range(rounds + warmup):
        for k, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, feeds[k])
            if turn >= warmup:
                times[k].append(time.perf_counter() - start)
    medians = [float(np.median(t)) for t in times]
    ratios = [[t / b for t, b in zip(series, times[0])] for series in times]
    return {"median_seconds": medians, "ratio": [float(np.median(r)) for r in ratios], "threads": threads, "rounds": rounds}


def random_feed(session, sizes, high, seed):
    """A feed for every input: dynamic axes from sizes (default 2), integers in [0, high of that input, default 2)."""
    rng, feed = np.random.default_rng(seed), {}
    for tensor in session.get_inputs():
        shape = [d if isinstance(d, int) else sizes.get(d, 2) for d in tensor.shape]
        if tensor.type == "tensor(int64)":
            feed[tensor.name] = rng.integers(0, high.get(tensor.name, 2), shape, dtype=np.int64)
            if tensor.name == "attention_mask":
                feed[tensor.name][:] = 1
        elif tensor.type == "tensor(float)":
            feed[tensor.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            raise JudgeError(f"no random values for input '{tensor.name}' of type {tensor.type}")
    return feed


# Sub-commands: each returns (JSON object, yes or no).

def command_run(a):
    outputs = run(load(a.model, a.threads, a.optimization), read(a.feed), a.batch)
    np.savez(a.out, **outputs)
    return {name: list(array.shape) for name, array in outputs.items()}, True


def command_compare(a):
    found = differences(read(a.expected), read(a.actual))
    return {"difference": found, "tolerance": a.tolerance}, all(d <= a.tolerance for d in found.values())


def command_check(a):
    found = differences(read(a.expected), run(load(a.model, a.threads, a.optimization), read(a.feed), a.batch))
    return {"difference": found, "tolerance": a.tolerance}, all(d <= a.tolerance for d in found.values())


def command_same(a):
    feed = read(a.feed)
    first, second = (run(load(path, a.threads, a.optimization), feed, a.batch) for path in (a.original, a.compressed))
    found = differences(first, second)
    return {"difference": found, "tolerance": a.tolerance}, all(d <= a.tolerance for d in found.values())


def command_valid(a):
    import onnx
    onnx.checker.check_model(a.model, full_check=a.full)
    session = load(a.model)
    return {"inputs": [i.name for i in session.get_inputs()], "outputs": [o.name for o in session.get_outputs()]}, True


def command_feed(a):
    np.savez(a.out, **random_feed(load(a.model), integers(a.dim), integers(a.high), a.seed))
    return {"feed": a.out}, True


def command_quantize(a):
    """A model in a form that ONNX Runtime's own quantizer writes, calibrated on random inputs."""
    import logging

    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
    logging.disable(logging.WARNING)
    if a.form == "dynamic":
        quantize_dynamic(a.model, a.out, per_channel=True, weight_type=QuantType.QInt8)
    else:
        class Reader(CalibrationDataReader):
            left = [random_feed(load(a.model), {}, {}, seed) for seed in range(4)]

            def get_next(self):
                return self.left.pop() if self.left else None

        quantize_static(a.model, a.out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8, op_types_to_quantize=None if a.form == "qdq-all" else ["MatMul", "Gemm"])
    return {"model": a.out}, True


def command_unfused(a):
    """The operators that still read DequantizeLinear in the graph that ONNX Runtime makes of a model."""
    import os
    import tempfile

    import onnx
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        ort.InferenceSession(a.model, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    dequantized = {output for node in nodes if node.op_type == "DequantizeLinear" for output in node.output}
    found = sorted(node.op_type for node in nodes if dequantized.intersection(node.input) and node.op_type != "QuantizeLinear")
    return {"unfused": found, "operators": sorted({node.op_type for node in nodes})}, found == []


def command_accuracy(a):
    found = accuracy(a.model, read(a.data), output=a.output, batch=a.batch or 32, threads=a.threads)
    return found, found["accuracy"] >= a.at_least


def command_paired(a):
    found = paired(a.original, a.compressed, read(a.data), output=a.output, batch=a.batch or 32, threads=a.threads)
    return found, found["difference"] >= -a.max_drop


def command_fidelity(a):
    data = read(a.data)
    found = fidelity(*(embeddings(path, data, a.output, a.batch or 32, a.threads) for path in (a.original, a.compressed)))
    return found, found["cosine"] >= a.at_least


def command_latency(a):
    feed = {name: array[a.first:a.first + a.samples] for name, array in read(a.feed).items()}
    found = latency([a.original, a.compressed], feed, a.threads, a.rounds)
    return found, found["ratio"][1] <= a.at_most


def read(path):
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def integers(pairs):
    return {name: int(value) for name, value in (pair.split("=") for pair in pairs)}


def parser():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)

    def add(name, text, *positional):
        sub = commands.add_parser(name, help=text, description=text)
        for argument in positional:
            sub.add_argument(argument)
        sub.add_argument("--threads", type=int, default=1)
        sub.add_argument("--batch", type=int, default=0, help="samples at a time (0: all, or a default)")
        sub.add_argument("--optimization", choices=sorted(OPTIMIZATION), default="all")
        sub.add_argument("--output", help="name of the output to look at")
        sub.set_defaults(run=globals()["command_" + name])
        return sub

    add("run", "run a model on a feed and write its outputs", "model", "feed", "out")
    for name, text, *positional in (
            ("compare", "are two .npz files equal within the tolerance?", "expected", "actual"),
            ("check", "does a model answer a feed with the expected outputs?", "model", "feed", "expected"),
            ("same", "do two models answer a feed with the same outputs?", "original", "compressed", "feed")):
        add(name, text, *positional).add_argument("--tolerance", type=float, default=1e-4,
                                                  help="relative to the output's range")
    add("valid", "does the model pass ONNX's checker and load?", "model").add_argument("--full", action="store_true")
    feed = add("feed", "write a random feed", "model", "out")
    feed.add_argument("--dim", action="append", default=[], metavar="AXIS=N")
    feed.add_argument("--high", action="append", default=[], metavar="INPUT=N")
    feed.add_argument("--seed", type=int, default=0)
    add("quantize", "quantize a model with ONNX Runtime's tools", "model", "out").add_argument(
        "--form", choices=["dynamic", "qdq", "qdq-all"], required=True)
    add("unfused", "does ONNX Runtime compute all that reads codes on the codes?", "model")
    add("accuracy", "accuracy on labelled samples", "model", "data").add_argument("--at-least", type=float, default=0)
    add("paired", "accuracy of two models on the same samples", "original", "compressed", "data").add_argument(
        "--max-drop", type=float, default=1)
    add("fidelity", "cosine and neighbour agreement of two sentence encoders", "original", "compressed", "data").add_argument(
        "--at-least", type=float, default=-1)
    speed = add("latency", "time of the compressed model over the original's", "original", "compressed", "feed")
    speed.add_argument("--at-most", type=float, default=float("inf"))
    speed.add_argument("--first", type=int, default=0, help="first sample of the feed to use")
    speed.add_argument("--samples", type=int, default=1, help="samples in a batch")
    speed.add_argument("--rounds", type=int, default=30)
    return top


def main():
    arguments = parser().parse_args()
    try:
        found, yes = arguments.run(arguments)
    except (JudgeError, OSError, ValueError, RuntimeError) as error:
        print(f"judge: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # ONNX Runtime's and the checker's own exception types
        print(f"judge: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1 if arguments.command == "valid" else 2)
    print(json.dumps(found, indent=2))
    sys.exit(0 if yes else 1)


if __name__ == "__main__":
    main()
