#!/usr/bin/env python3
"""tcompress eval: --dump-outputs against ONNX Runtime, --profile, and the reference kernels on every model of tests/data.

    test_eval.py TCOMPRESS REPOSITORY
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx

import judge

binary, root = sys.argv[1], Path(sys.argv[2])
MODELS, FEEDS = root / "tests/data/models", root / "tests/data/exec"


def evaluate(*arguments, **environment):
    return subprocess.run([binary, "eval", *map(str, arguments), "--no-latency", "--quiet"], capture_output=True, text=True, env={**os.environ, **environment})


class Eval(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.out, self.data = self.folder / "out.npz", self.folder / "data.npz"

    def tearDown(self):
        self.temporary.cleanup()

    def dump(self, model, arrays, *options, **environment):
        np.savez(self.data, **arrays)
        result = evaluate(model, "-d", self.data, "--dump-outputs", self.out, *options, **environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        return judge.read(self.out)

    def digits(self, count):
        return {"pixel_values": np.random.default_rng(3).random((count, 1, 8, 8), np.float32)}

    def assertAgrees(self, expected, actual, tolerance=1e-5):
        self.assertEqual(list(expected), list(actual))
        for name, difference in judge.differences(expected, actual).items():
            self.assertLessEqual(difference, tolerance, name)

    def test_all_samples_in_order(self):
        model, arrays = MODELS / "vit_digits.onnx", self.digits(23)
        expected = judge.run(judge.load(model), arrays)
        for batch in (1, 7, 64):
            self.assertAgrees(expected, self.dump(model, arrays, "--batch-size", batch))

    def test_several_outputs_and_inputs_with_a_cache(self):
        arrays = judge.read(FEEDS / "llama_char_kv.past3.feeds.npz")
        expected = judge.run(judge.load(MODELS / "llama_char_kv.onnx"), arrays)
        self.assertGreater(len(expected), 1)
        self.assertAgrees(expected, self.dump(MODELS / "llama_char_kv.onnx", arrays, "--batch-size", 1))

    def test_a_fixed_batch_covers_the_last_samples_too(self):
        proto = onnx.load(MODELS / "vit_digits.onnx")
        dimension = proto.graph.input[0].type.tensor_type.shape.dim[0]
        dimension.Clear()
        dimension.dim_value = 4
        fixed = self.folder / "fixed.onnx"
        onnx.save(proto, fixed)
        arrays = self.digits(10)
        self.assertAgrees(judge.run(judge.load(MODELS / "vit_digits.onnx"), arrays), self.dump(fixed, arrays))
        np.savez(self.data, **self.digits(3))
        result = evaluate(fixed, "-d", self.data, "--dump-outputs", self.out)
        self.assertEqual(result.returncode, 3, result.stderr)

    def test_a_failed_dump_leaves_the_old_file(self):
        self.out.write_bytes(b"old")
        np.savez(self.data, pixel_values=np.zeros((2, 1, 9, 9), np.float32))
        result = evaluate(MODELS / "vit_digits.onnx", "-d", self.data, "--dump-outputs", self.out)
        self.assertNotEqual(result.returncode, 0)
        self.assertEqual(self.out.read_bytes(), b"old")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["data.npz", "out.npz"])

    def test_profile_tells_where_the_time_goes(self):
        for environment, kernel in (({}, "native"), ({"TCOMPRESS_KERNELS": "reference"}, "reference")):
            result = evaluate(MODELS / "bert_tiny.onnx", "--profile", **environment)
            self.assertEqual(result.returncode, 0, result.stderr)
            shares = [float(share) for share in re.findall(r" ([0-9.]+) %$", result.stderr, re.MULTILINE)]
            self.assertAlmostEqual(sum(shares[:-1]), 100, delta=1)
            self.assertEqual(shares[-1], 100)
            self.assertRegex(result.stderr, rf"Linear +{kernel}")
            self.assertIn("refused", result.stderr)
            self.assertNotIn("Linear", result.stdout)

    def test_reference_kernels_agree_on_every_model(self):
        feeds = sorted(FEEDS.glob("*.feeds.npz"))
        self.assertGreater(len(feeds), 9)
        for path in feeds:
            model, arrays = MODELS / f"{path.name.split('.')[0]}.onnx", judge.read(path)
            with self.subTest(path.name):
                fastest = self.dump(model, arrays)
                self.assertAgrees(fastest, self.dump(model, arrays, TCOMPRESS_KERNELS="reference"), 1e-4)

    @unittest.skipUnless(os.environ.get("TCOMPRESS_ZOO"), "TCOMPRESS_ZOO names no folder of larger models")
    def test_reference_kernels_agree_on_larger_models(self):
        models = sorted(Path(os.environ["TCOMPRESS_ZOO"]).glob("*minilm*.onnx"))
        self.assertTrue(models)
        for model in models:
            with self.subTest(model.name):
                session = judge.load(model)
                arrays = judge.random_feed(session, {d: 9 for i in session.get_inputs() for d in i.shape[1:]}, {"input_ids": 999}, 1)
                fastest = self.dump(model, arrays)
                self.assertAgrees(fastest, self.dump(model, arrays, TCOMPRESS_KERNELS="reference"), 1e-4)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
