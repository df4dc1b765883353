#!/usr/bin/env python3
"""What each form of stored weights is worth: the linear layers of a sentence encoder in every form, its tables in 8 bits; file size, cosine
and neighbour agreement of sentence embeddings in ONNX Runtime.

    weight_forms.py MINILM_L3.onnx [--tcompress PATH] [--only WORD…] [--data sentences_eval.npz]

Calibrated forms see sentences_calibration only.
"""
import argparse
import os
import tempfile
from pathlib import Path

from fidelity import file_megabytes, judge, root
from process_cost import repeated

# Name, bits of a weight before scales, pass, whether it gets calibration data.
FORMS = [
    ("per channel, 8 bits", 8, "method=weight-only,bits=8", False),
    ("float8 e4m3", 8, "method=cast,dtype=float8e4m3fn", False),
    ("float8 e5m2", 8, "method=cast,dtype=float8e5m2", False),
    ("groups of 32, 6 bits", 6, "method=weight-only,bits=6", False),
    ("groups of 32, 5 bits", 5, "method=weight-only,bits=5", False),
    ("groups of 32, 4 bits", 4, "method=weight-only,bits=4,format=packed", False),
    ("normal float, 4 bits", 4, "method=codebook,codebook=normal-float,bits=4", False),
    ("logarithmic, 4 bits", 4, "method=codebook,codebook=logarithmic,bits=4", False),
    ("k-means, 4 bits", 4, "method=codebook,codebook=k-means,bits=4", False),
    ("vectors of 2, 4 bits", 4, "method=codebook,codebook=vector,bits=4", False),
    ("groups of 32, 3 bits", 3, "method=weight-only,bits=3", False),
    ("normal float, 3 bits", 3, "method=codebook,codebook=normal-float,bits=3", False),
    ("logarithmic, 3 bits", 3, "method=codebook,codebook=logarithmic,bits=3", False),
    ("k-means, 3 bits", 3, "method=codebook,codebook=k-means,bits=3", False),
    ("vectors of 2, 3 bits", 3, "method=codebook,codebook=vector,bits=3", False),
    ("groups of 32, 2 bits", 2, "method=weight-only,bits=2", False),
    ("vectors of 4, 2 bits", 2, "method=codebook,codebook=vector,bits=2", False),
    ("three levels, groups of 64", 1.6, "method=weight-only,bits=2,ternary=true,group_size=64", False),
    ("two levels, groups of 64", 1, "method=weight-only,bits=1,group_size=64", False),
    ("sign, groups of 64", 1, "method=weight-only,bits=1,symmetric=true,group_size=64", False),
    ("gptq, groups of 32, 4 bits", 4, "method=gptq,bits=4,format=packed", True),
    ("normal float with data, 4 bits", 4, "method=codebook,codebook=normal-float,bits=4", True),
    ("logarithmic with data, 4 bits", 4, "method=codebook,codebook=logarithmic,bits=4", True),
    ("k-means with data, 4 bits", 4, "method=codebook,codebook=k-means,bits=4", True),
    ("vectors of 2 with data, 4 bits", 4, "method=codebook,codebook=vector,bits=4", True),
    ("gptq, groups of 32, 3 bits", 3, "method=gptq,bits=3", True),
    ("k-means with data, 3 bits", 3, "method=codebook,codebook=k-means,bits=3", True),
    ("vectors of 2 with data, 3 bits", 3, "method=codebook,codebook=vector,bits=3", True),
    ("vectors of 4, a codebook a role, with data, 3 bits", 3, "method=codebook,codebook=vector,bits=3,dimension=4,shared=role", True),
    ("vectors of 4, one codebook, with data, 3 bits", 3, "method=codebook,codebook=vector,bits=3,dimension=4,shared=all", True),
    ("vectors of 4 with data, 2.5 bits", 2.5, "method=codebook,codebook=vector,bits=2.5,dimension=4", True),
    ("vectors of 4, one codebook, with data, 2.5 bits", 2.5, "method=codebook,codebook=vector,bits=2.5,dimension=4,shared=all", True),
    ("gptq, groups of 32, 2 bits", 2, "method=gptq,bits=2", True),
    ("k-means with data, 2 bits", 2, "method=codebook,codebook=k-means,bits=2", True),
    ("vectors of 4 with data, 2 bits", 2, "method=codebook,codebook=vector,bits=2", True),
    ("vectors of 4, one codebook, with data, 2 bits", 2, "method=codebook,codebook=vector,bits=2,shared=all", True),
    ("two books of vectors of 8 with data, 2 bits", 2, "method=codebook,codebook=vector,bits=2,dimension=8,books=2", True),
    ("gptq, three levels, groups of 64, 1.6 bits", 1.6, "method=gptq,bits=2,ternary=true,group_size=64", True),
    ("gptq, two levels, groups of 64, 1 bit", 1, "method=gptq,bits=1,group_size=64", True),
    ("two books of vectors of 8 with data, 1.5 bits", 1.5, "method=codebook,codebook=vector,bits=1.5,books=2", True),
    ("vectors of 8, one codebook, with data, 1.5 bits", 1.5, "method=codebook,codebook=vector,bits=1.5,dimension=8,shared=all", True),
    ("vectors of 8 with data, 1 bit", 1, "method=codebook,codebook=vector,bits=1", True),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tcompress", default=str(root / "build/release/bin/tcompress"))
    parser.add_argument("--only", nargs="*", default=[], help="words in the names of forms")
    parser.add_argument("--data", default=str(root / "tests/data/zoo/sentences_eval.npz"))
    parser.add_argument("--samples", type=int, default=512)
    arguments = parser.parse_args()

    data = {name: array[:arguments.samples] for name, array in judge.read(arguments.data).items()}
    original = judge.embeddings(arguments.model, data, threads=os.cpu_count())
    print("| form | bits | s | file MB | cosine | agreement |\n|---|---:|---:|---:|---:|---:|")
    for name, bits, options, calibrated in FORMS:
        if arguments.only and not any(word in name for word in arguments.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            target = str(Path(folder) / "out.onnx")
            command = [arguments.tcompress, "run", arguments.model, "-p", f"quantize:{options},ignore=role:embedding",
                       "-p", "quantize:method=weight-only,bits=8,targets=role:embedding", "-o", target, "--quiet"]
            if calibrated:
                command += ["--calibration", str(root / "tests/data/zoo/sentences_calibration.npz")]
            run = repeated(command, 1)
            if run["exit_code"]:
                print(f"| {name} | {bits} | failed | | | |", flush=True)
                continue
            quality = judge.fidelity(original, judge.embeddings(target, data, threads=os.cpu_count()))
            print(f"| {name} | {bits} | {run['seconds']:.1f} | {file_megabytes(target):.2f} | {quality['cosine']:.4f} | "
                  f"{quality['agreement']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
