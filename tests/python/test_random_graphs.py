#!/usr/bin/env python3
"""Property: a random graph of supported operators gives in the executor, with and without fusion, what ONNX Runtime gives.
A failure is shrunk to the few nodes that show it, saved, and printed with the line that repeats it.

    test_random_graphs.py RUN_MODELS [--count N] [--first SEED]
"""
import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

import graph_recipes
import graph_recipes_layout
import graph_recipes_types
from executor import Executor, Refused, difference, onnx_runtime
from random_graphs import random_graph

RECIPES = graph_recipes.RECIPES + graph_recipes_layout.RECIPES + graph_recipes_types.RECIPES
TOLERANCE = {np.dtype(np.float64): 1e-6}  # others 1e-4: twenty operators one after the other
LEAST = 0.1  # what cancels leaves the rounding errors of values of about 1


def disagreement(executor, model, feeds, expected, coarse=None):
    """(output, fusion, what is wrong), or None."""
    for fusion in ("none", "full"):
        try:
            found = executor.run(model, feeds, fusion)
        except Refused as refusal:
            return None, fusion, str(refusal)
        for name, want in expected.items():
            tolerance = coarse or TOLERANCE.get(want.dtype, 1e-4)
            wrong = difference(want, found[name], tolerance if np.issubdtype(want.dtype, np.floating) else 0, LEAST)
            if wrong:
                return name, fusion, wrong
    return None


def read_by(node):
    """Names that the node reads, those that its sub-graphs capture included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        made = {name for inner in attribute.g.node for name in inner.output}
        names += [name for inner in attribute.g.node for name in inner.input if name and name not in made]
    return names


def part(model, nodes, output, values):
    """The nodes alone; what they read and none of them computes is fed with `values`. Returns model and feeds."""
    computed = {name for node in nodes for name in node.output}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    read = [name for node in nodes for name in read_by(node)]
    feeds = {name: values[name] for name in dict.fromkeys(read) if name not in computed and name not in stored}
    described = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in feeds.items()]
    outputs = [output] if output else [name for node in nodes for name in node.output if name not in read]
    typed = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values[name].dtype), [None] * values[name].ndim) for name in outputs]
    constants = [stored[name] for name in dict.fromkeys(read) if name in stored]
    graph = helper.make_graph(nodes, "shrunken", described, typed, constants)
    return helper.make_model(graph, ir_version=model.ir_version, opset_imports=model.opset_import), feeds


def all_values(model, feeds):
    """Every value of the model, computed by ONNX Runtime."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    known = {output.name for output in wide.graph.output}
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for node in wide.graph.node for name in node.output if name and name not in known)
    return {**feeds, **onnx_runtime(wide, feeds)}


def shrink(executor, model, feeds, output, coarse):
    """Drops nodes, first to last, as long as the rest still disagrees."""
    values = all_values(model, feeds)

    def fails(nodes):
        smaller, fed = part(model, nodes, output, values)
        try:
            return disagreement(executor, smaller, fed, onnx_runtime(smaller, fed), coarse) is not None
        except Exception:
            return False
    nodes = list(model.graph.node)
    for node in list(nodes):
        rest = [other for other in nodes if other is not node]
        if rest and (output is None or any(output in other.output for other in rest)) and fails(rest):
            nodes = rest
    for node in reversed(list(nodes)):  # readers of nothing that matters
        rest = [other for other in nodes if other is not node]
        if rest and (output is None or any(output in other.output for other in rest)) and fails(rest):
            nodes = rest
    return part(model, nodes, output, values)


def report(executor, seed, graph, model, wrong):
    output, fusion, text = wrong
    print(f"FAILED {sys.argv[0]} {sys.argv[1]} --first {seed} --count 1\n    {f'output {output}, ' if output else ''}fusion {fusion}: {text}")
    smaller, feeds = shrink(executor, model, graph.feeds, output, graph.tolerance)
    stem = Path(tempfile.gettempdir()) / f"random_graph_{seed}"
    onnx.save(smaller, stem.with_suffix(".onnx"))
    np.savez(stem.with_suffix(".npz"), **feeds)
    nodes = [f"{node.output[0]} = {node.op_type}({', '.join(node.input)})" for node in smaller.graph.node]
    print(f"    {stem}.onnx, fed with {stem}.npz: " + "; ".join(nodes))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run_models")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    ran, nodes, refused, failed, kinds = 0, 0, 0, 0, set()
    with Executor(arguments.run_models) as executor:
        for seed in range(arguments.first, arguments.first + arguments.count):
            graph = random_graph(seed, RECIPES)
            model = graph.model()
            if not model.graph.output:
                continue
            onnx.checker.check_model(model)
            try:
                expected = onnx_runtime(model, graph.feeds)
            except Exception as error:  # the session's own exception types are not public
                if "NOT_IMPLEMENTED" not in str(error):
                    raise RuntimeError(f"seed {seed}: the generator made a model that ONNX Runtime does not accept: {error}") from error
                refused += 1
                continue
            ran, nodes = ran + 1, nodes + len(graph.nodes)
            kinds.update(node.op_type for node in graph.nodes)
            wrong = disagreement(executor, model, graph.feeds, expected, graph.tolerance)
            if wrong:
                failed += 1
                report(executor, seed, graph, model, wrong)
    print(f"{ran} graphs of {nodes} nodes, {len(kinds)} operators, {failed} failed; {refused} were not for ONNX Runtime")
    return failed != 0 or refused * 10 > ran or ran == 0


if __name__ == "__main__":
    sys.exit(main())
