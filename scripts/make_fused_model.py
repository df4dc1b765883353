#!/usr/bin/env python3
"""Fuses a BERT-like ONNX model with ONNX Runtime's own Transformer optimizer (com.microsoft Attention,
SkipLayerNormalization, BiasGelu, EmbedLayerNormalization).

That optimizer imports torch only to ask for its CUDA version, so an empty stand-in is enough; torch itself would be
half a gigabyte.

    make_fused_model.py IN.onnx OUT.onnx --heads 12 --hidden 384
"""
import argparse
import os
import sys
import types
from collections import Counter


def stand_in_for_torch():
    torch, version = types.ModuleType("torch"), types.ModuleType("torch.version")
    version.cuda = version.hip = None
    torch.version = version
    sys.modules.update({"torch": torch, "torch.version": version})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--heads", type=int, required=True)
    parser.add_argument("--hidden", type=int, required=True)
    arguments = parser.parse_args()

    stand_in_for_torch()
    from onnxruntime.transformers import optimizer  # needs the stand-in first

    # opt_level 0: only the Transformer fusions, none of the rewrites ONNX Runtime would do for this machine.
    fused = optimizer.optimize_model(arguments.source, model_type="bert", num_heads=arguments.heads,
                                     hidden_size=arguments.hidden, opt_level=0)
    temporary = arguments.target + ".partial"
    fused.save_model_to_file(temporary)
    os.replace(temporary, arguments.target)
    contrib = Counter(node.op_type for node in fused.model.graph.node if node.domain == "com.microsoft")
    if not contrib["Attention"]:
        sys.exit(f"make_fused_model: no attention was fused in {arguments.source}")
    print(", ".join(f"{count} {name}" for name, count in sorted(contrib.items())))


if __name__ == "__main__":
    main()
