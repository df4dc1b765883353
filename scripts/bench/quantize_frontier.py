#!/usr/bin/env python3
"""The quantization recipes of configs/frontier, run and measured in ONNX Runtime: file size, cosine and neighbour agreement of sentence
embeddings, latency, beside what each has to reach. Exits 1 when one misses.

    quantize_frontier.py MINILM_L3.onnx [--tcompress PATH] [--only NAME…] [--data sentences_eval.npz] [--recipes FOLDER]

Calibrates on sentences_calibration only. To choose between recipes give --data other text than sentences_eval.
"""
import argparse
import os
import sys
import tempfile
from pathlib import Path

from fidelity import file_megabytes, judge, root
from process_cost import repeated

# MB at most, cosine and agreement at least, latency ratio to float32 at most (batch 1, 1 thread).
LIMITS = {
    "w8a8": (17.6, 0.9988, 0.94, 0.55),
    "w8a8-static": (17.7, 0.9978, 0.93, 0.55),
    "w8a8-safe": (19.5, 0.9994, 0.95, None),
    "w8": (17.8, 0.9999, 0.98, None),
    "b11": (11.2, 0.997, 0.91, None),
    "b9": (9.4, 0.991, 0.82, None),
    "b8": (8.0, 0.987, 0.78, None),
    "auto": (8.1, 0.991, 0.82, None),
    "b7": (6.9, 0.975, 0.73, None),
    "b5": (5.5, 0.94, 0.60, None),
    "b4": (4.6, 0.90, 0.48, None),
}


def missed(found, limits):
    size, cosine, agreement, latency = limits
    problems = []
    if found["mb"] > size + 0.005:
        problems.append(f"size (to reach {size})")
    if found["cosine"] < cosine - 5e-5:
        problems.append(f"cosine (to reach {cosine})")
    if found["agreement"] < agreement - 5e-4:
        problems.append(f"agreement (to reach {agreement})")
    if latency and found["latency"] > latency:
        problems.append(f"latency (to reach {latency})")
    return problems


def measure(arguments, recipe, folder, original, data):
    target = str(Path(folder) / "out.onnx")
    run = repeated([arguments.tcompress, "run", arguments.model, "-c", str(recipe), "-o", target, "--quiet",
                    "--calibration", str(root / "tests/data/zoo/sentences_calibration.npz")], 1)
    if run["exit_code"]:
        return None
    one = {name: array[:1] for name, array in data.items()}
    quality = judge.fidelity(original, judge.embeddings(target, data, threads=os.cpu_count()))
    latency = judge.latency([arguments.model, target], one, rounds=arguments.rounds)["ratio"][1] if arguments.rounds else 0
    return {"seconds": run["seconds"], "peak": run["peak_mb"], "mb": file_megabytes(target), "latency": latency, **quality}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tcompress", default=str(root / "build/release/bin/tcompress"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--data", default=str(root / "tests/data/zoo/sentences_eval.npz"))
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--recipes", default=str(root / "configs/frontier"))
    parser.add_argument("--rounds", type=int, default=40, help="of the latency; 0 leaves it out")
    arguments = parser.parse_args()

    data = {name: array[:arguments.samples] for name, array in judge.read(arguments.data).items()}
    original = judge.embeddings(arguments.model, data, threads=os.cpu_count())
    print("| recipe | s | peak MB | file MB | cosine | agreement | latency | missed |\n|---|---|---|---|---|---|---|---|")
    bad = False
    for recipe in sorted(Path(arguments.recipes).glob("*.json")):
        if recipe.stem not in (arguments.only or LIMITS):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measure(arguments, recipe, folder, original, data)
        limits = LIMITS.get(recipe.stem)
        problems = ["tcompress failed"] if not found else missed(found, limits) if limits else []
        bad = bad or bool(problems)
        figures = (f"{found['seconds']:.1f} | {found['peak']:.0f} | {found['mb']:.2f} | {found['cosine']:.4f} | "
                   f"{found['agreement']:.3f} | {found['latency']:.2f}" if found else "| | | | |")
        print(f"| {recipe.stem} | {figures} | {'; '.join(problems)} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
