#!/usr/bin/env python3
"""Writes the node cases that the installed onnx defines, with the expected outputs they carry, as folders of files.

    make_onnx_cases.py FOLDER
"""
import pathlib
import sys
import warnings

from onnx.backend.test.case.node import collect_testcases

from case_files import write_case


def main():
    target = pathlib.Path(sys.argv[1])
    # NumPy's remarks on overflows that the cases provoke on purpose.
    warnings.simplefilter("ignore", RuntimeWarning)
    cases = collect_testcases(None)
    for case in cases:
        write_case(target / case.name, case.model, case.data_sets)
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
