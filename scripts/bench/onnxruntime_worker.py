#!/usr/bin/env python3
"""ONNX Runtime's side of forward.py: the commands of tests/bench/forward_bench.cpp, answered in a process of its own.

    onnxruntime_worker.py MODEL [--threads N]

Inputs and outputs stay ONNX Runtime's own values (IOBinding), so that no copy to numpy is measured.
"""
import argparse
import sys
import time

import numpy as np
import onnxruntime as ort


def status_megabytes(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":")) / 1024


class Worker:
    def __init__(self, model, threads):
        self.model, self.session = model, None
        self.options = ort.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3
        self.baseline()

    def open(self, model):
        self.model, self.session, self.binding = model, None, None
        return "ok"

    def baseline(self):
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        self.own_megabytes = status_megabytes("VmRSS")
        return "ok"

    def setup(self):
        self.session = self.binding = None
        start = time.perf_counter()
        self.session = ort.InferenceSession(self.model, self.options, providers=["CPUExecutionProvider"])
        return f"{1e3 * (time.perf_counter() - start):.3f}"

    def feeds(self, path):
        arrays = np.load(path)
        self.values = {i.name: ort.OrtValue.ortvalue_from_numpy(arrays[i.name]) for i in self.session.get_inputs()}
        self.bind()
        self.session.run_with_iobinding(self.binding)
        return "ok"

    def bind(self):
        self.binding = self.session.io_binding()
        for name, value in self.values.items():
            self.binding.bind_ortvalue_input(name, value)
        for output in self.session.get_outputs():
            self.binding.bind_output(output.name)

    def run(self, count):
        times = []
        for _ in range(int(count)):
            start = time.perf_counter()
            self.session.run_with_iobinding(self.binding)
            times.append(1e3 * (time.perf_counter() - start))
        return " ".join(f"{t:.4f}" for t in times)

    def decode(self, count):
        fed, names, times = self.values, [i.name for i in self.session.get_inputs()], []
        past, mask = [n for n in names if n.startswith("past")], next(n for n in names if "mask" in n)
        masks = [ort.OrtValue.ortvalue_from_numpy(np.ones((1, 1 + i), np.int64)) for i in range(int(count) + 1)]
        self.bind()
        binding = self.binding
        for step in range(int(count)):
            start = time.perf_counter()
            self.session.run_with_iobinding(binding)
            outputs = binding.get_outputs()
            binding.clear_binding_outputs()
            for output in self.session.get_outputs():
                binding.bind_output(output.name)
            for name, value in zip(past, outputs[1:]):
                binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_input(mask, masks[step + 1])
            times.append(1e3 * (time.perf_counter() - start))
        self.values = fed
        return " ".join(f"{t:.4f}" for t in times)

    def memory(self):
        return f"{status_megabytes('VmHWM') - self.own_megabytes:.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    worker = Worker(arguments.model, arguments.threads)
    for line in sys.stdin:
        command, *words = line.split()
        print(getattr(worker, command)(*words), flush=True)
