#!/usr/bin/env python3
"""The program as a user meets it: one line for every bad input and nothing written, the same bytes for any number of
threads, and the files it writes about itself.

    test_cli.py TCOMPRESS REPOSITORY
"""
import hashlib
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile
from pathlib import Path

binary, root = sys.argv[1], Path(sys.argv[2])
models, zoo = root / "tests/data/models", root / "tests/data/zoo"
VIT, BERT, LLAMA = models / "vit_digits.onnx", models / "bert_tiny.onnx", models / "llama_char.onnx"
DIGITS = zoo / "digits_calibration.npz"


def call(*arguments, cwd=None):
    return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class InFolder(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)
        self.out = self.folder / "out.onnx"

    def mount(self, folder, options):
        """A disk in memory, until the test is over."""
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode:
            self.skipTest("no disk can be mounted here")
        self.addCleanup(subprocess.run, ["umount", folder], check=True)

    def refused(self, code, words, *arguments):
        """One line on standard error, this exit code, nothing on standard output, nothing written."""
        before = sorted(self.folder.rglob("*"))
        result = call(*arguments, cwd=self.folder)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        lines = result.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertTrue(lines[0].startswith("tcompress: "), lines[0])
        for word in words:
            self.assertIn(word, lines[0])
        self.assertEqual(sorted(self.folder.rglob("*")), before)


class BadInput(InFolder):
    def test_missing_model(self):
        self.refused(3, ["nowhere.onnx"], "run", "nowhere.onnx", "-p", "cleanup", "-o", self.out)

    def test_truncated_model(self):
        broken = self.folder / "broken.onnx"
        broken.write_bytes(VIT.read_bytes()[:100_000])
        self.refused(3, ["broken.onnx"], "run", broken, "-p", "cleanup", "-o", self.out)

    def test_not_protobuf(self):
        text = self.folder / "text.onnx"
        text.write_text("this is no model\n" * 100)
        self.refused(3, ["text.onnx"], "run", text, "-p", "cleanup", "-o", self.out)

    def test_empty_file(self):
        empty = self.folder / "empty.onnx"
        empty.touch()
        self.refused(3, ["empty.onnx"], "inspect", empty)

    def test_wrong_arrays(self):
        self.refused(3, ["input_ids"], "run", BERT, "-p", "remove-heads:ratio=0.5,importance=output-norm", "-o", self.out,
                     "--calibration", DIGITS)

    def test_no_archive(self):
        data = self.folder / "data.npz"
        data.write_bytes(b"PK\x03\x04 but not really")
        self.refused(3, ["data.npz"], "run", VIT, "-p", "remove-heads:ratio=0.5,importance=output-norm", "-o", self.out,
                     "--calibration", data)

    def test_lying_array(self):
        data = self.folder / "data.npz"
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 1, 8, 8), }"
        header += b" " * (-(len(header) + 11) % 64) + b"\n"
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("pixel_values.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64)
        self.refused(3, ["data.npz"], "run", VIT, "-p", "remove-heads:ratio=0.5,importance=output-norm", "-o", self.out,
                     "--calibration", data)

    def test_unknown_option_of_a_pass(self):
        self.refused(2, ["ratoi", "did you mean 'ratio'"], "run", VIT, "-p", "remove-heads:ratoi=0.5", "-o", self.out)

    def test_unknown_option_of_a_command(self):
        self.refused(2, ["--outptu", "--output"], "run", VIT, "-p", "cleanup", f"--outptu={self.out}")
        self.refused(2, ["--outptu", "--output"], "run", VIT, "-p", "cleanup", "--outptu", self.out)

    def test_missing_value(self):
        self.refused(2, ["run: --output: a value is missing"], "run", VIT, "-p", "cleanup", "-o")

    def test_unknown_command(self):
        self.refused(2, ["rnu", "run"], "rnu", VIT)

    def test_out_of_range(self):
        self.refused(2, ["ratio", "1.5"], "run", VIT, "-p", "remove-heads:ratio=1.5", "-o", self.out)

    def test_pattern_without_match(self):
        self.refused(3, ["no-such-layer"], "run", VIT, "-p", "quantize:targets=no-such-layer*", "-o", self.out)

    def test_a_role_that_is_written_as_a_name(self):
        self.refused(3, ["'attention.*' matches no site", "'role:attention.*'"], "run", VIT, "-p", "quantize:targets=attention.*",
                     "-o", self.out)

    def test_options_that_contradict_each_other(self):
        command = ("run", VIT, "--preset", "int8", "-o", self.out)
        self.refused(2, ["--preset", "2 times", "int8, int4"], *command, "--preset", "int4")
        self.refused(2, ["--config and --preset", "give one"], *command, "-c", root / "configs/int4.json")
        self.refused(2, ["--latency and --no-latency", "give one"], *command, "--latency", "--no-latency")
        self.refused(2, ["min_speedup needs latency"], *command, "--no-latency", "--min-speedup", "2")
        self.refused(2, ["--json", "--dry-run"], *command, "--json")
        self.refused(2, ["standard output", "name an output file"], "run", VIT, "-p", "cleanup", "-o", "-", "--external-weights")
        self.refused(2, ["--log-format", "text, json", "'xml'"], *command, "--log-format", "xml")
        self.refused(2, ["passes.7.bits", "there are 2 passes"], *command, "--set", "passes.7.bits=8")

    def test_an_empty_name_is_no_choice(self):
        for option in ("--calibration", "--evaluation", "--output", "--config", "--report"):
            with self.subTest(option=option):
                self.refused(2, [option, "is empty"], "run", VIT, "-p", "cleanup", option, "")
        self.refused(2, ["--data", "is empty"], "eval", VIT, "-d", "")

    def test_data_without_inputs(self):
        data = self.folder / "labels.npz"
        with zipfile.ZipFile(DIGITS) as whole, zipfile.ZipFile(data, "w") as labels:
            labels.writestr("labels.npy", whole.read("labels.npy"))
        self.refused(3, ["no arrays but 'labels'", "the model's inputs"], "eval", VIT, "-d", data)

    def test_second_pass_finds_nothing(self):
        result = call("run", VIT, "-p", "quantize", "-p", "quantize", "-o", self.out, "--quiet")
        self.assertEqual(result.returncode, 3)
        self.assertIn("nothing was changed", result.stderr)
        self.assertIn("--allow-empty", result.stderr)
        self.assertIn("already quantized", result.stderr)
        self.assertFalse(self.out.exists())

    def test_pass_needs_data(self):
        self.refused(3, ["--calibration"], "run", VIT, "-p", "remove-heads:ratio=0.5,importance=output-norm", "-o", self.out)

    def test_output_folder_missing(self):
        self.refused(2, ["no-folder"], "run", VIT, "-p", "cleanup", "-o", self.folder / "no-folder" / "out.onnx")

    def test_output_folder_read_only(self):
        locked = self.folder / "locked"
        locked.mkdir(mode=0o555)
        if os.geteuid() == 0:  # whom only a read-only disk stops
            self.mount(locked, "ro")
        self.refused(2, ["locked"], "run", VIT, "-p", "cleanup", "-o", locked / "out.onnx")

    def test_output_is_a_device(self):
        self.refused(2, ["/dev/full"], "run", VIT, "-p", "cleanup", "-o", "/dev/full")
        self.assertFalse(Path("/dev/full").is_file())

    def test_every_problem_of_a_file_at_once(self):
        recipe = self.folder / "recipe.json"
        recipe.write_text(json.dumps({"version": 1, "sed": 1, "passes": [{"type": "prun"}, {"type": "quantize", "bitz": 8}]}))
        result = call("validate", recipe)
        self.assertEqual(result.returncode, 2)
        told = result.stdout + result.stderr
        for place in ("/sed", "/passes/0/type", "/passes/1/bitz"):
            self.assertIn(place, told)

    def test_a_number_that_is_none(self):
        recipe = self.folder / "recipe.json"
        recipe.write_text('{"version": 1e400, "passes": []}')
        result = call("validate", recipe)
        self.assertEqual(result.returncode, 2)
        self.assertNotIn("json.exception", result.stderr)

    def test_disk_full(self):
        disk = self.folder / "disk"
        disk.mkdir()
        self.mount(disk, "size=200k")
        self.refused(3, ["No space left"], "run", VIT, "-p", "cleanup", "-o", disk / "out.onnx", "--quiet")
        self.assertEqual(list(disk.iterdir()), [])

    def test_interrupt(self):
        process = subprocess.Popen([binary, "run", str(VIT), "-p", "quantize", "-o", str(self.out), "--evaluation",
                                    str(zoo / "digits_test.npz"), "--report", str(self.folder / "report.json")],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.25)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        if process.returncode == 0:
            self.skipTest("the run was over before the interrupt")
        self.assertIn(process.returncode, (130, -signal.SIGINT))
        self.assertEqual(list(self.folder.iterdir()), [])


class Outputs(InFolder):
    """What is written takes no other file's place, and a place that cannot take it is told."""

    def copied(self, file):
        copy = self.folder / Path(file).name
        copy.write_bytes(Path(file).read_bytes())
        return copy

    def test_nothing_that_is_read_or_written_is_replaced(self):
        model, data, recipe = self.copied(VIT), self.copied(DIGITS), self.folder / "recipe.json"
        recipe.write_text(json.dumps({"version": 1, "passes": [{"type": "cleanup"}]}))
        run = ["run", model, "-c", recipe, "-o", self.out]
        before = {file: digest(file) for file in (model, data, recipe)}
        for again in (["eval", model, "-d", data, "--dump-outputs", model], ["eval", model, "-d", data, "--dump-outputs", data],
                      ["eval", model, "-d", data, "--report", "r.json", "--dump-outputs", "./r.json"],
                      [*run, "--report", recipe], [*run, "--depfile", model], [*run, "--depfile", self.out],
                      [*run, "--depfile", recipe], ["run", model, "-c", recipe, "-o", recipe]):
            self.refused(2, ["reads or writes already"], *again)
        self.refused(2, ["standard output takes one file"], "run", model, "-c", recipe, "-o", "-", "--report", "-")
        self.refused(2, ["recipe.json", "name a folder"], *run, "--dump-after", recipe)
        self.refused(2, [".json or .md"], "eval", model, "--report", "r.txt")
        self.assertEqual({file: digest(file) for file in before}, before)

    def test_weights_beside_a_model_are_not_replaced(self):
        model, other = self.folder / "model.onnx", self.folder / "other.onnx"
        self.assertEqual(call("run", VIT, "-p", "cleanup", "-o", model, "--external-weights", "--quiet").returncode, 0)
        weights = Path(f"{model}.data")
        command = ["run", model, "-p", "quantize:method=dynamic,bits=8", "--quiet", "-o"]
        self.refused(2, ["model.onnx.data", "--force"], *command, weights)
        # The weights' name is in the model's file; under another name it is a model like any.
        other.write_bytes(model.read_bytes())
        self.refused(2, ["model.onnx.data"], "run", other, "-p", "quantize:method=dynamic,bits=8", "--external-weights", "-o", model)
        self.assertEqual(call(*command, model, "--force").returncode, 0)

    def test_standard_output_that_takes_no_more(self):
        for arguments in (["passes", "--markdown"], ["inspect", VIT], ["run", VIT, "-p", "cleanup", "-o", "-", "--quiet"]):
            with open("/dev/full", "w") as full:
                result = subprocess.run([binary, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
            self.assertEqual(result.returncode, 3, arguments)
            self.assertIn("standard output", result.stderr)
        reader = subprocess.run(["sh", "-c", '"$0" passes --markdown | head -n 1', binary], capture_output=True, text=True, timeout=300)
        self.assertEqual(reader.stderr, "")

    def test_a_reader_that_leaves_gets_no_whole_model(self):
        # More than a pipe holds, so that a part of it is written before the reader is gone.
        for name in ("llama_char.onnx", "gpt2_char.onnx"):
            run = subprocess.Popen([binary, "run", models / name, "-p", "cleanup", "-o", "-", "--quiet"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
            run.stdout.read(10)
            run.stdout.close()
            self.assertIn(b"cannot write the whole model to standard output", run.stderr.read())
            run.stderr.close()
            self.assertEqual(run.wait(timeout=300), 3)

    def test_closed_streams_are_no_files(self):
        self.assertEqual(call("run", VIT, "-p", "cleanup", "-o", self.out).returncode, 0)
        closed = self.folder / "closed.onnx"
        subprocess.run(["sh", "-c", '"$0" run "$1" -p cleanup -o "$2" <&- >&- 2>&-', binary, VIT, closed], check=True, timeout=300)
        self.assertEqual(digest(closed), digest(self.out))

    def test_a_file_that_may_not_grow(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        result = subprocess.run([binary, "run", VIT, "-p", "cleanup", "-o", self.out, "--quiet"], preexec_fn=limit,
                                capture_output=True, text=True, timeout=300)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("File too large", result.stderr)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_terminal_that_is_closed_ends_the_run_as_an_interrupt(self):
        process = subprocess.Popen([binary, "run", LLAMA, "-p", "quantize:method=gptq,bits=4", "--calibration",
                                    zoo / "fortunes_char_calibration.npz", "-o", self.out], stderr=subprocess.PIPE)
        time.sleep(0.4)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
        if process.returncode == 0:
            self.skipTest("the run was over before")
        self.assertEqual(process.returncode, 130)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_cache_that_is_none(self):
        arguments = ["run", VIT, "-p", "drop-layers:count=1,criterion=block-influence", "--calibration", DIGITS, "-o", self.out]
        cache = self.folder / "cache"
        self.assertEqual(call(*arguments, "--cache-dir", cache).returncode, 0)
        for file in list(cache.iterdir()):
            file.unlink()
            file.mkdir()
        result = call(*arguments, "--cache-dir", cache)
        self.assertEqual(result.returncode, 0, result.stderr)
        result = call(*arguments, "--cache-dir", self.out)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("out.onnx cannot be made", result.stderr)


class Promises(InFolder):
    PASSES = ["-p", "remove-heads:ratio=0.5", "-p", "prune:structure=neuron,sparsity=0.5", "-p", "low-rank:rank_ratio=0.25",
              "-p", "quantize:method=dynamic,bits=8"]

    def test_the_same_bytes_for_any_number_of_threads(self):
        found = set()
        for threads in (1, 2, 3, 8):
            result = call("run", VIT, *self.PASSES, "-o", self.out, "--calibration", DIGITS, "--threads", threads, "--quiet")
            self.assertEqual(result.returncode, 0, result.stderr)
            found.add(digest(self.out))
        self.assertEqual(len(found), 1)

    def test_the_input_stays(self):
        before = digest(VIT)
        call("run", VIT, "-p", "quantize", "-o", self.out, "--quiet")
        self.assertEqual(digest(VIT), before)

    def test_the_last_head_and_the_last_neurons_stay(self):
        for asked in ("remove-heads:ratio=1", "remove-heads:count=4", "remove-heads:count=99", "prune:structure=neuron,sparsity=1"):
            with self.subTest(asked=asked):
                result = call("run", VIT, "-p", asked, "-o", self.out)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("where all were asked for", result.stderr)
        self.assertNotIn("where all were asked for", call("run", VIT, "-p", "remove-heads:count=3", "-o", self.out).stderr)

    def test_notes_on_single_sites_are_for_who_asks(self):
        command = ("run", VIT, "-p", "prune:structure=neuron,sparsity=0.5", "--calibration", DIGITS, "-o", self.out)
        short, whole = call(*command).stderr, call(*command, "-v").stderr
        self.assertNotIn("ridge", short)
        self.assertIn("notes on single sites: -v prints them", short)
        self.assertIn("ridge", whole)

    def test_passes_in_a_row_work_on_every_model(self):
        for model in sorted(models.glob("*.onnx")):
            with self.subTest(model=model.name):
                result = call("run", model, *self.PASSES, "-o", self.out, "--quiet")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertLess(self.out.stat().st_size, model.stat().st_size)

    def test_one_liners(self):
        for one_liner in ("remove-heads:ratio=0.5", "prune:structure=neuron,sparsity=0.5", "drop-layers:count=2",
                          "low-rank:rank_ratio=0.5", "quantize:method=dynamic,bits=8", "cleanup"):
            with self.subTest(one_liner=one_liner):
                result = call("run", LLAMA, "-p", one_liner, "-o", self.out, "--quiet")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(result.stdout, "")

    def test_a_missed_constraint_keeps_the_output(self):
        recipe = self.folder / "recipe.json"
        recipe.write_text(json.dumps({"version": 1, "passes": [{"type": "cleanup"}], "constraints": {"max_size_ratio": 0.5}}))
        result = call("run", VIT, "-c", recipe, "-o", self.out)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("max_size_ratio", result.stderr)
        self.assertTrue(self.out.exists())

    def test_dry_run_writes_nothing(self):
        result = call("run", VIT, "-p", "quantize", "-o", self.out, "--dry-run")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse(self.out.exists())

    def test_external_weights_give_the_same_model(self):
        beside = self.folder / "beside.onnx"
        self.assertEqual(call("run", VIT, "-p", "cleanup", "-o", self.out, "--quiet").returncode, 0)
        self.assertEqual(call("run", VIT, "-p", "cleanup", "-o", beside, "--external-weights", "--quiet").returncode, 0)
        self.assertLess(beside.stat().st_size, Path(f"{beside}.data").stat().st_size)
        again = self.folder / "again.onnx"
        result = call("run", beside, "-p", "cleanup:allow_empty=true", "-o", again, "--quiet")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(digest(again), digest(self.out))
        Path(f"{beside}.data").unlink()
        self.refused(3, ["beside.onnx.data"], "inspect", beside)

    def test_statistics_are_kept_from_run_to_run(self):
        cache = self.folder / "cache"
        arguments = ["run", VIT, "-p", "drop-layers:count=1,criterion=block-influence", "--calibration", DIGITS]
        self.assertEqual(call(*arguments, "-o", self.out).returncode, 0)
        for damage in (False, False, True):
            again = self.folder / "again.onnx"
            if damage:
                for file in cache.iterdir():
                    file.write_bytes(file.read_bytes()[:-1] + b"?")
            before = {file.name for file in cache.iterdir()} if cache.exists() else set()
            result = call(*arguments, "-o", again, "--cache-dir", cache)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(digest(again), digest(self.out))
            self.assertEqual("computed anew" in result.stderr, damage, result.stderr)
            self.assertTrue(before in (set(), {file.name for file in cache.iterdir()}))
        self.refused(2, ["--memory-limit", "3 parsecs", "300MB"], "run", VIT, "-p", "cleanup", "-o", "no.onnx", "--memory-limit",
                     "3 parsecs")

    def test_pictures_are_made_when_asked_for(self):
        arguments = ["run", VIT, "-p", "drop-layers:count=1", "--calibration", DIGITS]
        self.assertEqual(call(*arguments, "-o", self.folder / "given.onnx").returncode, 0)
        result = call(*arguments, "-o", self.out, "--set", "data.calibration.enlarge=2")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("100 were given and 100 made", result.stderr)
        self.assertNotEqual(digest(self.out), digest(self.folder / "given.onnx"))

    def test_standard_output_gets_the_file(self):
        self.assertEqual(call("run", VIT, "-p", "cleanup", "-o", self.out, "--quiet").returncode, 0)
        result = subprocess.run([binary, "run", VIT, "-p", "cleanup", "-o", "-", "--quiet"], capture_output=True, timeout=300)
        self.assertEqual(hashlib.sha256(result.stdout).hexdigest(), digest(self.out))

    def test_dumps_after_each_pass(self):
        dumps = self.folder / "dumps"
        result = call("run", VIT, "-p", "remove-heads:ratio=0.5", "-p", "quantize", "-o", self.out, "--dump-after", dumps, "--quiet")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual([path.name for path in sorted(dumps.iterdir())], ["01-remove-heads.onnx", "02-quantize-dynamic.onnx"])
        self.assertEqual(call("inspect", dumps / "01-remove-heads.onnx").returncode, 0)

    def test_depfile(self):
        depfile = self.folder / "out.d"
        result = call("run", VIT, "-p", "quantize", "-o", self.out, "--depfile", depfile, "--quiet")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(str(VIT), depfile.read_text())
        self.assertTrue(depfile.read_text().startswith(str(self.out)))

    def test_batch_goes_on_and_resumes(self):
        broken = self.folder / "broken.onnx"
        broken.write_text("no model")
        target = self.folder / "out"
        first = call("batch", VIT, broken, "--preset", "int8", "-o", target, "--quiet")
        self.assertEqual(first.returncode, 3, first.stderr)
        made = [path for path in target.rglob("*.onnx")]
        self.assertEqual(len(made), 1)
        stamp = made[0].stat().st_mtime_ns
        again = call("batch", VIT, broken, "--preset", "int8", "-o", target, "--resume", "--quiet")
        self.assertEqual(again.returncode, 3, again.stderr)
        self.assertEqual(made[0].stat().st_mtime_ns, stamp)


class Itself(unittest.TestCase):
    def test_generated_files(self):
        for path, arguments in (("configs/schema/pipeline.schema.json", ["schema", "pipeline"]),
                                ("configs/schema/report.schema.json", ["schema", "report"]),
                                ("docs/passes.md", ["passes", "--markdown"]), ("docs/cli.md", ["man", "--markdown"])):
            with self.subTest(path=path):
                self.assertEqual(call(*arguments).stdout, (root / path).read_text(), "run scripts/update_generated.sh")

    def test_recipes_are_valid(self):
        for recipe in sorted([*(root / "configs").glob("*.json"), *(root / "configs/frontier").glob("*.json")]):
            with self.subTest(recipe=recipe.name):
                self.assertEqual(call("validate", recipe).returncode, 0)

    def test_frontier_recipes_run_on_any_model(self):
        calibration = root / "tests/data/zoo/digits_calibration.npz"
        for name in ("w8", "w8a8", "w8a8-static", "w8a8-safe"):
            with self.subTest(recipe=name), tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "out.onnx"
                result = call("run", VIT, "-c", root / f"configs/frontier/{name}.json", "--calibration", calibration, "-o", out)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertLess(out.stat().st_size, 0.55 * VIT.stat().st_size)

    def test_recipes_of_several_passes_on_a_model_with_a_cache(self):
        text = zoo / "fortunes_char_calibration.npz"
        for model, recipe in (("gpt2_char_kv", ["--preset", "small"]), ("llama_char_kv", ["--preset", "small"]),
                              ("gpt2_char_kv", ["-c", root / "configs/frontier/heads-ffn-50.json"])):
            with self.subTest(model=model, recipe=recipe), tempfile.TemporaryDirectory() as folder:
                result = call("run", models / f"{model}.onnx", *recipe, "--calibration", text, "--calibration-samples", 8,
                              "--evaluation", text, "--evaluation-samples", 4, "--no-latency", "-o", Path(folder) / "out.onnx")
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_pruned_and_fused_then_quantized(self):
        with tempfile.TemporaryDirectory() as folder:
            result = call("run", models / "bert_tiny_fused.onnx", "-p", "prune:structure=neuron,sparsity=0.25", "-p",
                          "quantize:method=gptq,bits=4", "--synthetic-calibration", 8, "-o", Path(folder) / "out.onnx")
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_sensitivity(self):
        data = root / "tests/data/zoo/digits_calibration.npz"
        command = ("sensitivity", VIT, "-d", data, "--samples", "4", "--bits", "8", "--bits", "3", "--targets", "block:0")
        found = json.loads(call(*command, "--json").stdout)
        self.assertGreater(len(found), 3)
        for weight in found:
            eight, three = weight["damages"]
            self.assertLess(eight["damage"], three["damage"])
            self.assertGreater(eight["bytes"], three["bytes"])
        table = call(*command).stdout
        self.assertIn("3 bits", table)
        self.assertIn("with this weight alone rounded", table)
        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder) / "small.onnx"
            self.assertEqual(call("run", VIT, "-p", "quantize", "-o", small).returncode, 0)
            nothing = call("sensitivity", small, "-d", data, "--bits", "4", "--targets", "role:ffn")
            self.assertEqual(nothing.returncode, 3)
            self.assertIn("no weight that could be rounded", nothing.stderr)
        self.assertEqual(call("sensitivity", VIT, "-d", data, "--bits", "7").returncode, 2)

    def test_help_is_a_command_too(self):
        self.assertEqual(call("help").stdout, call("--help").stdout)
        self.assertEqual(call("help", "run").stdout, call("run", "--help").stdout)
        self.assertEqual(call("help", "nosuch").returncode, 2)

    def test_completions_and_manual(self):
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("tcompress", call("completions", shell).stdout)
        self.assertTrue(call("man").stdout.startswith(".TH"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
