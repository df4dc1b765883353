#!/usr/bin/env python3
"""Property: whatever small Transformer, whatever passes in whatever order, the output loads in ONNX Runtime and gives there
what this program's executor gives. Seeds are fixed, so a failure names one model and one pipeline.

    test_random_pipelines.py TCOMPRESS REPOSITORY [ROUNDS]
"""
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx

binary, root = sys.argv[1], Path(sys.argv[2])
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 24
sys.path[:0] = [str(root / "scripts"), str(Path(__file__).parent)]
import judge  # noqa: E402
import make_bert_tiny  # noqa: E402

PASSES = ["remove-heads:ratio=0.5", "remove-heads:count=1,scope=global", "prune:structure=neuron,sparsity=0.5",
          "prune:structure=neuron,sparsity=0.3,multiple=1", "prune:sparsity=0.4", "prune:structure=2:4", "drop-layers:count=1",
          "low-rank:rank_ratio=0.25", "low-rank:energy=0.7,multiple=4", "quantize:method=weight-only,bits=8",
          "quantize:method=weight-only,bits=4", "quantize:method=cast", "quantize:method=dynamic", "cleanup",
          "share-parameters", "share-parameters:method=tensors", "prune:structure=embedding-rows,unknown=0,always=1-20",
          "prune:structure=hidden,sparsity=0.25,multiple=1", "norm"]
# A pass may find nothing left to do: a model of one layer, matrices already factorised or quantized.
IDLE = ("nothing was changed", "one must stay", "has no float weights", "no attention was recognised", "no feed-forward")


def tiny_bert(draw):
    make_bert_tiny.LAYERS = draw.choice([1, 2, 3])
    make_bert_tiny.HEADS = draw.choice([1, 2, 3, 4])
    make_bert_tiny.HEAD = draw.choice([4, 8, 12])
    make_bert_tiny.HIDDEN = make_bert_tiny.HEADS * make_bert_tiny.HEAD
    make_bert_tiny.FFN = draw.choice([16, 40, 64])
    seed, original = draw.randrange(1 << 30), make_bert_tiny.Builder
    make_bert_tiny.Builder = lambda **_: original(seed)
    try:
        model = make_bert_tiny.build()
        # The stream of a model that only classifies does not leave it, and may become narrower.
        if draw.random() < 0.5:
            del model.graph.output[0]
        return model
    finally:
        make_bert_tiny.Builder = original


class RandomPipelines(unittest.TestCase):
    def test_outputs_agree_with_onnx_runtime(self):
        done = 0
        for seed in range(rounds):
            draw = random.Random(seed)
            pipeline = draw.sample(PASSES, draw.randrange(1, 4))
            with self.subTest(seed=seed, pipeline=pipeline), tempfile.TemporaryDirectory() as folder:
                done += self.check(draw, pipeline, Path(folder))
        self.assertGreater(done, rounds // 2, "most pipelines must have run")

    def check(self, draw, pipeline, folder):
        model, out, feed, dump = (folder / name for name in ("in.onnx", "out.onnx", "feed.npz", "dump.npz"))
        onnx.save(tiny_bert(draw), model)
        options = [word for one in pipeline for word in ("-p", one)]
        result = subprocess.run([binary, "run", model, *options, "-o", out, "--quiet"], capture_output=True, text=True)
        if result.returncode == 3 and any(reason in result.stderr for reason in IDLE):
            self.assertFalse(out.exists())
            return 0
        self.assertEqual(result.returncode, 0, result.stderr)
        onnx.checker.check_model(str(out))
        shape = (3, 7)
        ids = np.random.default_rng(draw.randrange(1 << 30)).integers(0, make_bert_tiny.VOCAB, shape)
        arrays = {"input_ids": ids, "attention_mask": np.ones(shape, np.int64), "token_type_ids": np.zeros(shape, np.int64)}
        np.savez(feed, **arrays)
        # Unoptimized: ONNX Runtime's own rewrites quantize activations behind the model's back.
        session = judge.load(str(out), optimization="none")
        expected = dict(zip((output.name for output in session.get_outputs()), session.run(None, arrays)))
        subprocess.run([binary, "eval", out, "-d", feed, "--dump-outputs", dump, "--quiet"], check=True, capture_output=True)
        actual = np.load(dump)
        # A rounding that flips moves an 8-bit activation by a whole step; everything else is float arithmetic.
        steps = any("dynamic" in one for one in pipeline) or any("cast" in one for one in pipeline)
        for name, want in expected.items():
            self.assertTrue(np.isfinite(want).all())
            error = np.abs(actual[name] - want).max() / max(np.ptp(want), 1e-6)
            self.assertLess(error, 3e-2 if steps else 1e-4, name)
        return 1


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
