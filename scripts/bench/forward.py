#!/usr/bin/env python3
"""Forward pass, session set-up and memory beside ONNX Runtime's: the whole table in one run.

    forward.py [--threads 1,2] [--only WORD] [--rounds N] [--model FILE --shape BATCHxLENGTH …]

Both runtimes run in processes of their own, with as many threads, and are measured in turns; a pause before each turn lets the
other's waiting threads go to sleep. Times are the smallest of all rounds (of a decoding step: the mean over the steps of the
best round); set-up is load, plan and pack against the creation of a session; memory is the peak of set-up and forward above
what the process holds after it has run another, small model. Real models come from scripts/fetch_zoo.sh and, where it is set, from TCOMPRESS_ZOO; the others
are made in a temporary folder. A row whose ratio misses its goal is marked, and the exit code is 1.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import bench_models

root = Path(__file__).resolve().parents[2]
PAUSE_SECONDS = 0.15  # ONNX Runtime's threads look for work for some 50 ms before they sleep


class Runtime:
    """One process that answers commands."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args}: no answer to '{command}'")
        return answer.split()

    def numbers(self, command):
        return [float(word) for word in self.ask(command)]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Row:
    def __init__(self, name, make, shape, goal, decode=0, compute=None):
        self.name, self.make, self.goal, self.decode, self.compute = name, make, goal, decode, compute
        self.batch, self.length = map(int, shape.split("x"))

    def label(self):
        return f"{self.name} " + (f"{self.decode} tokens" if self.decode else f"{self.batch}×{self.length}")


def table(folder, fetched, extra):
    """Rows: name, function that gives the model file, batch × length, ratio to reach."""
    made = {}

    def once(function, *arguments):
        def make():
            if (function, arguments) not in made:
                made[function, arguments] = function(*arguments)
            return made[function, arguments]
        return make

    small = root / "tests/data/models"
    encoders = [("MiniLM-L3", fetched / "minilm_l3.onnx")]
    if (extra / "sentiment_minilm_l6.onnx").exists():
        encoders.append(("MiniLM-L6", extra / "sentiment_minilm_l6.onnx"))
    else:
        print("sentiment_minilm_l6.onnx is not in TCOMPRESS_ZOO: its rows are left out", file=sys.stderr)
    rows = []
    for kind, make, goal in [("float32", None, 0.90), ("dynamic int8", bench_models.dynamic_int8, 0.85),
                             ("QDQ int8", bench_models.static_int8, 0.85)]:
        for name, path in encoders:
            source = once(make, path, folder) if make else (lambda path=path: path)
            rows += [Row(f"{name} {kind}", source, shape, goal) for shape in ("1x16", "1x128", "8x64", "32x128")]
    for form in ("nbits", "blocked"):
        for bits in (4, 8):
            rows += [Row(f"{form} int{bits} 4096²", once(bench_models.weight_only, bits, form, folder), f"{count}x1", 1.0)
                     for count in (1, 256)]
    rows += [Row(f"{name} with cache", lambda name=name: small / f"{name}_char_kv.onnx", "1x1", 1.0, decode=64)
             for name in ("gpt2", "llama")]
    rows += [Row(f"{name}", lambda name=name: small / f"{name}.onnx", shape, 1.0)
             for name in ("vit_digits", "vit_mnist5k") for shape in ("1x1", "32x1")]
    rows.append(Row("BERT-large float32", once(bench_models.bert, folder), "8x128", 0.95,
                    compute=24 * (12 * 1024**2 * 1024 + 2 * 8 * 128**2 * 1024)))
    return rows


def measure(row, threads, arguments, folder):
    model = row.make()
    feeds = Path(folder) / "feeds.npz"
    np.savez(feeds, **bench_models.feeds_for(model, row.batch, row.length))
    commands = [[arguments.program, model, "--threads", threads],
                [sys.executable, Path(__file__).with_name("onnxruntime_worker.py"), model, "--threads", threads]]
    small = root / "tests/data/models/vit_digits.onnx"
    np.savez(Path(folder) / "small.npz", **bench_models.feeds_for(small, 1, 1))
    setups, times, peaks = [[], []], [[], []], [0, 0]
    runtimes = [Runtime(command) for command in commands]
    for runtime in runtimes:
        for command in (f"open {small}", "setup", f"feeds {folder}/small.npz", f"open {model}", "baseline"):
            runtime.ask(command)
    count = 3
    for turn in range(arguments.rounds):
        for i, runtime in enumerate(runtimes):
            time.sleep(PAUSE_SECONDS)
            setups[i] += runtime.numbers("setup")
            runtime.ask(f"feeds {feeds}")
            if turn == 0:
                peaks[i] = runtime.numbers("memory")[0]
                # As many runs a turn as fit the time.
                count = max(2, min(60, int(arguments.seconds * 1e3 / runtime.numbers("run 3")[-1])))
            if row.decode:
                times[i] += [np.mean(runtime.numbers(f"decode {row.decode}")) for _ in range(3)]
            else:
                times[i] += runtime.numbers(f"run {count}")
    for runtime in runtimes:
        runtime.close()
    return [min(list_) for list_ in setups], [min(list_) for list_ in times], peaks


def sgemm_rate(program, threads):
    """GFLOP/s of the best large float32 product of this machine, ours or oneDNN's."""
    printed = subprocess.run([program, str(threads), "sgemm"], check=True, capture_output=True, text=True).stdout
    return float(printed.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=root / "build/release/bin/forward_bench")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default="", help="rows with this in their name")
    parser.add_argument("--model", help="this model alone")
    parser.add_argument("--shape", action="append", help="of --model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of runs in a turn")
    arguments = parser.parse_args()
    fetched = Path(subprocess.run([root / "scripts/fetch_zoo.sh", "sentiment"], check=True, capture_output=True, text=True).stdout.strip())
    extra = Path(os.environ.get("TCOMPRESS_ZOO", fetched))
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        rows = table(folder, fetched, extra)
        if arguments.model:
            rows = [Row(Path(arguments.model).stem, lambda: arguments.model, shape, 1.0) for shape in arguments.shape or ["1x128"]]
        print("| model, batch × length | threads | ms | ONNX Runtime ms | ratio | goal | set-up ratio | memory MiB | ratio |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        for row in (row for row in rows if arguments.only in row.label()):
            for threads in map(int, arguments.threads.split(",")):
                setup, forward, peak = measure(row, threads, arguments, folder)
                ratio = forward[0] / forward[1]
                missed += ratio > row.goal
                print(f"| {row.label()} | {threads} | {forward[0]:.3f} | {forward[1]:.3f} | {ratio:.2f} "
                      f"| {row.goal:.2f}{' missed' if ratio > row.goal else ''} | {setup[0]:.0f}/{setup[1]:.0f} = {setup[0] / setup[1]:.2f} "
                      f"| {peak[0]:.0f} | {peak[0] / peak[1]:.2f} |", flush=True)
                if row.compute:
                    best = sgemm_rate(Path(arguments.program).with_name("kernels_bench"), threads)
                    rate = 2e-6 * row.compute / forward[0]
                    print(f"  {rate:.0f} GFLOP/s, {100 * rate / best:.0f} % of this machine's matrix product ({best:.0f})", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
