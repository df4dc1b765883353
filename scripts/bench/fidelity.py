#!/usr/bin/env python3
"""Size, fidelity and speed of compressed sentence encoders beside their original, in ONNX Runtime.

    fidelity.py ORIGINAL.onnx COMPRESSED.onnx… [--data sentences_eval.npz] [--rounds N] [--threads N] [--output NAME]

Cosine: mean over sentences between the masked means of the token states. Agreement: share of sentences whose nearest
other sentence stays the same. Latency: batch 1, median ratio to the original of runs taken in turns.
"""
import argparse
import os
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root / "tests" / "python"))
import judge  # noqa: E402


def file_megabytes(path):
    """The model with its external data files."""
    import onnx
    from onnx.external_data_helper import uses_external_data
    places = {path}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if uses_external_data(tensor):
            places |= {str(Path(path).parent / e.value) for e in tensor.external_data if e.key == "location"}
    return sum(os.path.getsize(place) for place in places) / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original")
    parser.add_argument("compressed", nargs="+")
    parser.add_argument("--data", default=str(root / "tests/data/zoo/sentences_eval.npz"))
    parser.add_argument("--rounds", type=int, default=40, help="0 leaves the latency out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", help="name of the token states")
    arguments = parser.parse_args()

    data, models = judge.read(arguments.data), [arguments.original] + arguments.compressed
    vectors = [judge.embeddings(path, data, arguments.output, threads=os.cpu_count()) for path in models]
    ratios = [float("nan")] * len(models)
    if arguments.rounds:
        one = {name: array[:1] for name, array in data.items()}
        ratios = judge.latency(models, one, arguments.threads, arguments.rounds)["ratio"]
    print("| model | MB | cosine | agreement | latency ratio |\n|---|---|---|---|---|")
    for path, rows, ratio in zip(models, vectors, ratios):
        found = judge.fidelity(vectors[0], rows)
        print(f"| {Path(path).name} | {file_megabytes(path):.2f} | {found['cosine']:.4f} | {found['agreement']:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
