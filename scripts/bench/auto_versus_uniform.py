#!/usr/bin/env python3
"""Mixed precision beside one choice for all weights, in files of the same size, judged in ONNX Runtime.

    auto_versus_uniform.py MODEL.onnx --calibration FILE.npz --evaluation FILE.npz… [--bits 4 3] [--recipes b8 b5 …] [--format packed]
                           [--cleanup-first]

For each width: quantize/gptq with groups of 32 and 8-bit scales for all weights, the same with tables divided by use among
four formats at that width (quantize/embedding, then gptq), and quantize/auto in the size of each. For each recipe of configs/frontier: the recipe, and
quantize/auto in its size with the recipe's calibration. Labelled data: accuracy, cross-entropy and the squared error of the
outputs, by the outputs squared; others: sentence embeddings. --cleanup-first: what cleanup takes away is not paid from the budget.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from fidelity import judge, root
from frontier import FOLDER, quality, run


def uniform(bits, form, by_use):
    passes = [{"type": "quantize", "method": "gptq", "bits": bits, "group_size": 32, "scale_type": "uint8", "format": form}, {"type": "cleanup"}]
    if by_use:
        passes.insert(0, {"type": "quantize", "method": "embedding", "bits_per_weight": bits + 0.1, "tables": 4, "small_table_bits": bits,
                          "allow_empty": True})
    return {"version": 1, "passes": passes}


def mixed(bytes_at_most, form, data, cleanup_first):
    recipe = {"version": 1, "passes": [{"type": "quantize", "method": "auto", "max_size_bytes": bytes_at_most, "format": form},
                                       {"type": "cleanup"}]}
    if cleanup_first:
        recipe["passes"].insert(0, {"type": "cleanup"})
    return {**recipe, "data": data} if data else recipe


def pairs(arguments):
    """Names and recipes to compare with."""
    for bits in arguments.bits:
        yield f"{bits} bits", uniform(bits, arguments.format, by_use=False)
        yield f"{bits} bits, tables by use", uniform(bits, arguments.format, by_use=True)
    for name in arguments.recipes:
        recipe = json.loads((FOLDER / f"{name}.json").read_text())
        recipe.pop("$schema", None)
        yield name, recipe


class Evaluation:
    """What a file of samples says about models beside the original."""

    def __init__(self, arguments, path):
        self.arguments, self.data = arguments, judge.read(path)
        self.labelled = "labels" in self.data
        if self.labelled:
            found = judge.accuracy(arguments.model, self.data)
            print(f"original on {Path(path).stem}: accuracy {found['accuracy']:.4f}, cross-entropy {found['cross_entropy']:.4f}, "
                  f"{found['samples']} samples")
            self.original, self.head = self.outputs(arguments.model), "accuracy | cross-entropy | output error"
        else:
            self.original, self.head = judge.embeddings(arguments.model, self.data, threads=os.cpu_count()), "cosine | agreement"

    def outputs(self, model):
        found = judge.run(judge.load(model, threads=os.cpu_count()), self.data, batch=64)
        return {name: array.astype(np.float64) for name, array in found.items() if array.dtype.kind == "f"}

    def of(self, target):
        said = quality(self.arguments, target, self.data, self.original)
        if not self.labelled:
            return said
        changed = self.outputs(target)
        errors = [((changed[name] - array) ** 2).sum() / (array ** 2).sum() for name, array in self.original.items()]
        return f"{said} | {np.mean(errors):.2e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--evaluation", required=True, nargs="+")
    parser.add_argument("--bits", type=int, nargs="*", default=[4, 3])
    parser.add_argument("--recipes", nargs="*", default=[])
    parser.add_argument("--format", default="packed")
    parser.add_argument("--cleanup-first", action="store_true")
    parser.add_argument("--tcompress", default=str(root / "build/release/bin/tcompress"))
    arguments = parser.parse_args()

    evaluations = [Evaluation(arguments, path) for path in arguments.evaluation]
    print(f"| what | bytes | {' | '.join(one.head for one in evaluations)} | s |\n|{'---|' * (3 + sum(one.head.count('|') + 1 for one in evaluations))}")
    for name, recipe in pairs(arguments):
        size = None
        for label in (name, f"auto in the size of {name}"):
            passes = recipe if size is None else mixed(size, arguments.format, recipe.get("data"), arguments.cleanup_first)
            with tempfile.TemporaryDirectory() as folder:
                target = str(Path(folder) / "out.onnx")
                try:
                    seconds = run(arguments, passes, [], target, folder)
                except subprocess.CalledProcessError:
                    print(f"| {label} | tcompress failed | | | |", flush=True)
                    break
                size = size or os.path.getsize(target)
                print(f"| {label} | {os.path.getsize(target)} | {' | '.join(one.of(target) for one in evaluations)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
