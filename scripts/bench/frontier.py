#!/usr/bin/env python3
"""What the recipes of configs/frontier make of a model, with and without compensation, judged in ONNX Runtime.

    frontier.py MODEL.onnx --calibration FILE.npz --evaluation FILE.npz [--recipe NAME …] [--set KEY=VALUE …] [--plain]

Labelled evaluation data: accuracy and cross-entropy, and the difference of the accuracies with its paired 95 % interval.
Unlabelled: fidelity of sentence embeddings (fidelity.py). Latency: batch 1, 1 thread, median ratio of runs in turns.
--plain adds a row a recipe with the same passes without compensation: nothing fitted again, no map in the place of a
layer, the smallest weights to zero.
"""
import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fidelity import file_megabytes, judge, root

FOLDER = root / "configs/frontier"


def without_compensation(recipe):
    recipe = copy.deepcopy(recipe)
    recipe.pop("data", None)
    for step in recipe["passes"]:
        step.pop("loss", None)
        if step["type"] == "remove-heads" or step.get("structure") == "neuron":
            step["compensate"] = False
        elif step["type"] == "drop-layers":
            step.update(patch=False, criterion="block-influence")
        elif step.get("method") == "sparsegpt":
            step["method"] = "magnitude"
            for option in ("solver", "allocation"):
                step.pop(option, None)
            if ":" in step.get("structure", ""):
                step.pop("sparsity", None)
        elif step["type"] == "low-rank":
            step["method"] = "svd"
            step.pop("allocation", None)
        elif step["type"] == "share-parameters":
            step["compensate"] = False
            step.pop("rounds", None)
    return recipe


def quality(arguments, target, data, original):
    if "labels" not in data:
        found = judge.fidelity(original, judge.embeddings(target, data, threads=os.cpu_count()))
        return f"{found['cosine']:.4f} | {found['agreement']:.3f}"
    found = judge.paired(arguments.model, target, data)
    low, high = found["difference_95"]
    entropy = judge.accuracy(target, data)["cross_entropy"]
    return (f"{found['compressed']:.4f} ({100 * found['difference']:+.2f} points, 95 % {100 * low:+.2f} to {100 * high:+.2f}) | "
            f"{entropy:.4f}")


def run(arguments, recipe, options, target, folder):
    path = Path(folder) / "recipe.json"
    path.write_text(json.dumps(recipe))
    start = time.perf_counter()
    subprocess.run([arguments.tcompress, "run", arguments.model, "-c", str(path), "--calibration", arguments.calibration, *options,
                    "-o", target, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--evaluation", required=True)
    parser.add_argument("--recipe", action="append", default=[], help="names of configs/frontier; default: all")
    parser.add_argument("--set", action="append", default=[], help="passed on to tcompress")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--rounds", type=int, default=40, help="0 leaves the latency out")
    parser.add_argument("--tcompress", default=str(root / "build/release/bin/tcompress"))
    arguments = parser.parse_args()

    data = judge.read(arguments.evaluation)
    one = {name: array[:1] for name, array in data.items()}
    labelled = "labels" in data
    original = None if labelled else judge.embeddings(arguments.model, data, threads=os.cpu_count())
    names = arguments.recipe or sorted(path.stem for path in FOLDER.glob("*.json"))
    if labelled:
        found = judge.accuracy(arguments.model, data)
        print(f"original: accuracy {found['accuracy']:.4f}, cross-entropy {found['cross_entropy']:.4f}, {found['samples']} samples")
    print(f"| recipe | MB | {'accuracy | cross-entropy' if labelled else 'cosine | agreement'} | latency | s |\n|---|---|---|---|---|---|")
    for name in names:
        recipe = json.loads((FOLDER / f"{name}.json").read_text())
        recipe.pop("$schema", None)
        rows = [(name, recipe, [option for value in arguments.set for option in ("--set", value)])]
        if arguments.plain:
            rows.append((f"{name}, plain", without_compensation(recipe), []))
        for label, passes, options in rows:
            with tempfile.TemporaryDirectory() as folder:
                target = str(Path(folder) / "out.onnx")
                try:
                    seconds = run(arguments, passes, options, target, folder)
                except subprocess.CalledProcessError:
                    print(f"| {label} | tcompress failed | | | | |", flush=True)
                    continue
                ratio = judge.latency([arguments.model, target], one, rounds=arguments.rounds)["ratio"][1] if arguments.rounds else float("nan")
                print(f"| {label} | {file_megabytes(target):.2f} | {quality(arguments, target, data, original)} | {ratio:.2f} | "
                      f"{seconds:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
