#!/usr/bin/env python3
"""The main job's figures, measured whole: for each pass on MiniLM-L3 the time and memory of the process, the file, what it
is worth in ONNX Runtime, and the figure to reach. Exits 1 when one is missed.

    main_job.py MINILM_L3.onnx [--tcompress PATH] [--rounds N] [--only WORD]

Timing a process needs a machine that does nothing else; say so beside the figures when it does.
"""
import argparse
import os
import sys
import tempfile
from pathlib import Path

from fidelity import file_megabytes, judge, root
from process_cost import repeated

# Options of `tcompress run`, and limits: seconds, peak MB and file MB at most, cosine at least, latency ratio at most.
ROWS = [
    ("dynamic int8", ["-p", "quantize:method=dynamic,bits=8"],
     {"seconds": 0.5, "peak": 200, "mb": 17.5, "cosine": 0.9961, "latency": 0.55}),
    ("weight-only int8", ["-p", "quantize:method=weight-only,bits=8"], {"mb": 17.8, "cosine": 0.9998}),
    ("weight-only int4", ["-p", "quantize:method=weight-only,bits=4,group_size=32"], {"mb": 11.2, "cosine": 0.9786}),
    ("FFN half", ["-p", "prune:structure=neuron,sparsity=0.5"], {"mb": 62.1}),
    ("heads 12 to 6", ["-p", "remove-heads:ratio=0.5"], {"mb": 65.6}),
    ("drop 1 of 3 layers", ["-p", "drop-layers:count=1"], {"mb": 62.1}),
    ("low-rank 0.5", ["-p", "low-rank:rank_ratio=0.5"], {"mb": 69.1}),
    ("FFN, heads, int8", ["-p", "remove-heads:ratio=0.5", "-p", "prune:structure=neuron,sparsity=0.5",
                          "-p", "quantize:method=dynamic,bits=8"], {"mb": 15.0}),
]
AT_LEAST = {"cosine"}


def missed(measured, limits):
    return [f"{name} {measured[name]:.4g} (to reach {limit})" for name, limit in limits.items()
            if (measured[name] < limit - 5e-5 if name in AT_LEAST else measured[name] > limit)]


def measure(arguments, options, folder, original, data):
    target = str(Path(folder) / "out.onnx")
    run = repeated([arguments.tcompress, "run", arguments.model, *options, "-o", target, "--quiet"], arguments.rounds)
    if run["exit_code"]:
        return None
    one = {name: array[:1] for name, array in data.items()}
    quality = judge.fidelity(original, judge.embeddings(target, data, threads=os.cpu_count()))
    return {"seconds": run["seconds"], "peak": run["peak_mb"], "mb": file_megabytes(target), **quality,
            "latency": judge.latency([arguments.model, target], one, rounds=40)["ratio"][1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tcompress", default=str(root / "build/release/bin/tcompress"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="rows with this in their name")
    arguments = parser.parse_args()

    start = repeated([arguments.tcompress, "--version"], 15)
    late = start["seconds"] > 0.040
    print(f"tcompress --version: {start['seconds'] * 1000:.0f} ms" + (" (to reach 40)" if late else ""))
    data = judge.read(root / "tests/data/zoo/sentences_eval.npz")
    original = judge.embeddings(arguments.model, data, threads=os.cpu_count())
    print("| what | s | peak MB | file MB | cosine | agreement | latency | missed |\n|---|---|---|---|---|---|---|---|")
    bad = late
    for name, options, limits in ROWS:
        if arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measure(arguments, options, folder, original, data)
        problems = missed(found, limits) if found else ["tcompress failed"]
        bad = bad or bool(problems)
        figures = (f"{found['seconds']:.2f} | {found['peak']:.0f} | {found['mb']:.2f} | {found['cosine']:.4f} | "
                   f"{found['agreement']:.3f} | {found['latency']:.2f}" if found else "| | | | |")
        print(f"| {name} | {figures} | {'; '.join(problems)} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
