#!/usr/bin/env python3
"""Round-to-nearest of a BERT-large-shaped model (1.34 GB of float32 in an external file, random weights) beside this
machine's copy bandwidth, measured in turns with it.

    quantize_large.py [--tcompress PATH] [--folder /dev/shm] [--rounds 3] [--threads N]

Everything lies in `folder`, a tmpfs by default, so that no disk is measured. Copying: read() of 4 MiB at a time and write()
into a new file, one part of the file a thread. Both rates are bytes of the original model a second; best of the rounds.
The whole process is timed: reading, rounding, writing, ONNX's checker and the test run of what was written.
"""
import argparse
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from process_cost import repeated

root = Path(__file__).resolve().parents[2]
CASES = {"int8": "bits=8", "int4": "bits=4,observer=minmax", "int4, ranges of least error": "bits=4"}


def copy_part(source, target, begin, end):
    piece = memoryview(bytearray(4 << 20))
    with open(source, "rb", buffering=0) as read, open(target, "r+b", buffering=0) as write:
        read.seek(begin), write.seek(begin)
        while begin < end:
            count = read.readinto(piece[:min(len(piece), end - begin)])
            write.write(piece[:count])
            begin += count


def copy_seconds(source, folder, threads):
    size, target = os.path.getsize(source), Path(folder) / "copy"
    target.unlink(missing_ok=True)
    target.touch()
    bounds = [size * i // threads for i in range(threads + 1)]
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda i: copy_part(source, target, bounds[i], bounds[i + 1]), range(threads)))
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tcompress", default=str(root / "build/release/bin/tcompress"))
    parser.add_argument("--folder", default="/dev/shm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--layers", type=int, default=24)
    arguments = parser.parse_args()

    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        child = os.fork()  # numpy and onnx stay out of this process
        if child == 0:
            from bench_models import bert
            bert(folder, layers=arguments.layers, vocabulary=30522)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit("the model could not be made")
        data = folder / "bert.data"
        size = os.path.getsize(data)
        copies, runs = [], {name: [] for name in CASES}
        for _ in range(arguments.rounds):
            copies.append(copy_seconds(data, folder, arguments.threads))
            for name, options in CASES.items():
                run = repeated([arguments.tcompress, "run", str(folder / "bert.onnx"), "-p", "quantize:method=weight-only," + options,
                                "-o", str(folder / "out.onnx"), "--quiet", "--no-latency", "--threads", str(arguments.threads)], 1)
                if run["exit_code"]:
                    sys.exit(f"tcompress failed with {run['exit_code']}")
                runs[name].append(run)
        print(f"copy on {arguments.threads} threads: {size / min(copies) / 1e9:.2f} GB/s of {size / 1e9:.2f} GB\n")
        print("| weights | s | GB/s | of the copy | peak MB |\n|---|---|---|---|---|")
        for name, found in runs.items():
            seconds = min(run["seconds_best"] for run in found)
            print(f"| {name} | {seconds:.2f} | {size / seconds / 1e9:.2f} | {min(copies) / seconds:.0%} | "
                  f"{max(run['peak_mb'] for run in found):.0f} |")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
