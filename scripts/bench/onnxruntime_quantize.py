#!/usr/bin/env python3
"""The peer of `quantize:method=dynamic`: ONNX Runtime's own dynamic int8 quantization, for timing a whole process.

    onnxruntime_quantize.py IN.onnx OUT.onnx [--per-tensor]
"""
import argparse
import logging

from onnxruntime.quantization import QuantType, quantize_dynamic

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--per-tensor", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    quantize_dynamic(arguments.source, arguments.target, per_channel=not arguments.per_tensor, weight_type=QuantType.QInt8)
