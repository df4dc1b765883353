#!/usr/bin/env python3
"""Forward pass of a model: forward_bench (tests/bench) against ONNX Runtime, taken in turns in one run.

usage: forward.py FORWARD_BENCH MODEL [--threads N] [--shape BATCHxLENGTH ...] [--rounds N] [--processor-time]

Prints a table row a shape: smallest and median time of both and the ratio of the smallest. On a busy machine
--processor-time (one thread) tells more than elapsed time.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime as ort


def feeds_for(session, batch, length, random):
    feeds = {}
    for spec in session.get_inputs():
        shape = [d if isinstance(d, int) else (batch if i == 0 else length) for i, d in enumerate(spec.shape)]
        if "int" in spec.type:
            dtype = np.int64 if "64" in spec.type else np.int32
            ids = "ids" in spec.name and "type" not in spec.name and "position" not in spec.name
            fill = random.integers(1, 90, shape) if ids else (np.ones(shape) if "mask" in spec.name else np.zeros(shape))
            feeds[spec.name] = fill.astype(dtype)
        else:
            feeds[spec.name] = random.standard_normal(shape).astype(np.float32)
    return feeds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--processor-time", action="store_true")
    arguments = parser.parse_args()
    if arguments.processor_time and arguments.threads != 1:
        sys.exit("--processor-time needs one thread: ONNX Runtime's waiting threads burn processor time")
    options = ort.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    clock = time.process_time if arguments.processor_time else time.perf_counter
    print(f"{'shape':>10} {'ours min':>10} {'median':>10} {'ORT min':>10} {'median':>10} {'ratio':>6}   (ms)")
    for shape in arguments.shape or ["1x16", "1x128", "8x64"]:
        batch, length = map(int, shape.split("x"))
        feeds = feeds_for(session, batch, length, np.random.default_rng(0))
        ours, theirs = [], []
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "feeds.npz"
            np.savez(path, **feeds)
            for _ in range(arguments.rounds):
                command = [arguments.program, arguments.model, path, "--threads", str(arguments.threads),
                           "--iterations", str(arguments.iterations)]
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                ours += [float(line.split()[arguments.processor_time]) for line in printed.splitlines()[1:]]
                session.run(None, feeds)
                for _ in range(arguments.iterations):
                    start = clock()
                    session.run(None, feeds)
                    theirs.append(1e3 * (clock() - start))
        a, b = min(ours), min(theirs)
        print(f"{shape:>10} {a:10.3f} {np.median(ours):10.3f} {b:10.3f} {np.median(theirs):10.3f} {a / b:6.2f}")


if __name__ == "__main__":
    main()
