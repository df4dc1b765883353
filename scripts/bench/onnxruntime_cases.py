#!/usr/bin/env python3
"""How many of the operator cases of tests/backend ONNX Runtime itself passes, at the same tolerance, suite by suite.

    onnxruntime_cases.py [--list] FOLDER      FOLDER: what scripts/fetch_cases.sh prints
"""
import argparse
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

RELATIVE, ABSOLUTE = 1e-3, 1e-5


def read(path, info):
    kind = info.type.WhichOneof("value")
    proto = {"sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}.get(kind, onnx.TensorProto)()
    proto.ParseFromString(path.read_bytes())
    to_python = {"sequence_type": numpy_helper.to_list, "optional_type": numpy_helper.to_optional}
    return to_python.get(kind, numpy_helper.to_array)(proto)


def agree(found, expected):
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(agree, found, expected))
    if expected is None or found is None:
        return found is expected
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape or found.dtype.kind != expected.dtype.kind:
        return False
    if expected.dtype.kind in "OSUb":
        return (found == expected).all()
    return np.allclose(found.astype(np.float64), expected.astype(np.float64), RELATIVE, ABSOLUTE, equal_nan=True)


def passes(folder):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    graph = onnx.load(folder / "model.onnx").graph
    try:
        session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        for data in folder.glob("test_data_set_*"):
            feeds = {info.name: read(data / f"input_{i}.pb", info) for i, info in enumerate(graph.input)}
            found = session.run(None, feeds)
            expected = [read(data / f"output_{i}.pb", info) for i, info in enumerate(graph.output)]
            if not all(map(agree, found, expected)):
                return False
    except Exception:  # whatever ONNX Runtime raises: it does not pass
        return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the cases that do not pass")
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    for suite in sorted(arguments.folder.iterdir()):
        cases = sorted(suite.iterdir())
        failed = [case.name for case in cases if not passes(case)]
        print(f"{suite.name}: {len(cases) - len(failed)} of {len(cases)}")
        if arguments.list:
            print("\n".join(f"  {name}" for name in failed))


if __name__ == "__main__":
    sys.exit(main())
