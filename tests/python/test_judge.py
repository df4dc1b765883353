#!/usr/bin/env python3
"""The judge itself: says yes to equal models, no to a disturbed one, and its figures agree with slow definitions."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
import judge  # noqa: E402

DATA = Path(__file__).resolve().parents[1] / "data"
PLAIN, FUSED = DATA / "models/bert_tiny.onnx", DATA / "models/bert_tiny_fused.onnx"


def ask(*arguments):
    run = subprocess.run([sys.executable, Path(judge.__file__), *map(str, arguments)], capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


class Judge(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.feed = Path(self.folder.name) / "feed.npz"
        code, output = ask("feed", PLAIN, self.feed, "--dim", "sequence=7", "--high", "input_ids=100")
        self.assertEqual(code, 0, output)

    def tearDown(self):
        self.folder.cleanup()

    def disturbed(self):
        model = onnx.load(PLAIN)
        weight = next(t for t in model.graph.initializer if t.name.startswith("onnx::MatMul"))
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
        path = Path(self.folder.name) / "disturbed.onnx"
        onnx.save(model, path)
        return path

    def test_same(self):
        self.assertEqual(ask("same", PLAIN, FUSED, self.feed)[0], 0)
        self.assertEqual(ask("same", PLAIN, self.disturbed(), self.feed)[0], 1)

    def test_run_and_check(self):
        out = Path(self.folder.name) / "out.npz"
        self.assertEqual(ask("run", PLAIN, self.feed, out)[0], 0)
        self.assertEqual(ask("check", FUSED, self.feed, out)[0], 0)
        self.assertEqual(ask("check", self.disturbed(), self.feed, out)[0], 1)
        self.assertEqual(ask("compare", out, out, "--tolerance", "0")[0], 0)

    def test_a_missing_input_is_named(self):
        np.savez(self.feed, input_ids=np.zeros((1, 3), np.int64))
        code, output = ask("run", PLAIN, self.feed, Path(self.folder.name) / "out.npz")
        self.assertEqual(code, 2)
        self.assertIn("attention_mask", output)

    def test_valid(self):
        self.assertEqual(ask("valid", PLAIN, "--full")[0], 0)
        broken = Path(self.folder.name) / "broken.onnx"
        broken.write_bytes(PLAIN.read_bytes()[:5000])
        self.assertEqual(ask("valid", broken)[0], 1)

    def test_known_accuracy(self):
        code, output = ask("accuracy", DATA / "models/vit_digits.onnx", DATA / "zoo/digits_test.npz", "--at-least", "0.957")
        self.assertEqual(code, 0, output)
        self.assertIn('"correct": 431', output)


class Figures(unittest.TestCase):
    def test_difference_is_relative_to_the_range(self):
        want = {"y": np.array([0.0, 4.0], np.float32)}
        self.assertAlmostEqual(judge.differences(want, {"y": np.array([0.0, 3.0], np.float32)})["y"], 0.25)
        self.assertEqual(judge.differences(want, {})["y"], float("inf"))
        self.assertEqual(judge.differences(want, {"y": np.array([0.0, np.nan], np.float32)})["y"], float("inf"))
        self.assertEqual(judge.differences(want, {"y": np.zeros((2, 1), np.float32)})["y"], float("inf"))

    def test_fidelity_against_its_definition(self):
        rng = np.random.default_rng(1)
        a, b = rng.standard_normal((9, 5)), rng.standard_normal((9, 5))

        def cosine(x, y):
            return x @ y / np.sqrt(x @ x) / np.sqrt(y @ y)

        def nearest(rows, i):
            return max((j for j in range(9) if j != i), key=lambda j: cosine(rows[i], rows[j]))

        found = judge.fidelity(a, b)
        self.assertAlmostEqual(found["cosine"], np.mean([cosine(x, y) for x, y in zip(a, b)]))
        self.assertAlmostEqual(found["agreement"], np.mean([nearest(a, i) == nearest(b, i) for i in range(9)]))
        self.assertAlmostEqual(judge.fidelity(a, 3 * a)["cosine"], 1)

    def test_masked_mean_ignores_padding(self):
        states = np.array([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
        np.testing.assert_allclose(judge.masked_mean(states, np.array([[1, 1, 0]])), [[2, 3]])

    def test_cross_entropy_skips_ignored_labels(self):
        logits = np.log(np.array([[[0.25, 0.75], [0.5, 0.5]]]))
        self.assertAlmostEqual(judge.cross_entropy(logits, np.array([[1, -100]])), -np.log(0.75))


if __name__ == "__main__":
    unittest.main()
