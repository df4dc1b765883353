#!/usr/bin/env python3
"""The source checks find what they are for, and nothing in a clean tree."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def check(name, files, track=False):
    """Exit code and output of scripts/check_NAME.py on a tree with these files."""
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text(text)
        if track:
            subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
            subprocess.run(["git", "add", "."], cwd=folder, check=True)
        run = subprocess.run([sys.executable, ROOT / f"scripts/check_{name}.py", folder], capture_output=True, text=True)
        return run.returncode, run.stdout


class Layers(unittest.TestCase):
    def refused(self, path, include, expected):
        code, output = check("layers", {path: f"#include {include}\n"})
        self.assertEqual(code, 1, output)
        self.assertIn(f"{path}:1:", output)
        self.assertIn(expected, output)

    def allowed(self, path, include):
        code, output = check("layers", {path: f"#include {include}\n"})
        self.assertEqual(code, 0, output)

    def test_upward_includes_are_refused(self):
        self.refused("lib/ir/a.h", '"lib/exec/executor.h"', "lib/ir may not include lib/exec/executor.h")
        self.refused("kernels/a.cpp", '"lib/ir/graph.h"', "kernels may not include")
        self.refused("lib/pipeline/a.cpp", '"passes/registry.h"', "lib/pipeline may not include")
        self.refused("lib/support/a.h", '"lib/tensor/dtype.h"', "lib/support may not include")

    def test_downward_includes_are_allowed(self):
        self.allowed("apps/tcompress/main.cpp", '"lib/support/error.h"')
        self.allowed("passes/a.cpp", '"kernels/linalg.h"')
        self.allowed("lib/exec/a.cpp", '"kernels/matmul.h"')

    def test_outside_libraries_stay_in_their_places(self):
        self.refused("kernels/matmul.cpp", "<oneapi/dnnl/dnnl.hpp>", "kernels/onednn")
        self.allowed("kernels/onednn/matmul.cpp", "<oneapi/dnnl/dnnl.hpp>")
        self.refused("passes/a.cpp", "<lapacke.h>", "kernels/linalg*")
        self.allowed("kernels/linalg_svd.cpp", "<lapacke.h>")
        self.refused("lib/pipeline/a.cpp", "<CLI/CLI.hpp>", "apps")
        self.refused("lib/pipeline/a.h", "<nlohmann/json.hpp>", "json_fwd")
        self.allowed("lib/pipeline/a.h", "<nlohmann/json_fwd.hpp>")
        self.refused("kernels/a.cpp", "<onnx/onnx_pb.h>", "above lib/tensor")

    def test_an_empty_tree_is_an_error(self):
        self.assertNotEqual(check("layers", {"other/a.h": ""})[0], 0)


class Types(unittest.TestCase):
    def check(self, first, second):
        return check("types", {"lib/a.h": first, "passes/b.cpp": second})

    def test_a_type_that_is_defined_twice_is_refused(self):
        for kind in ("struct T", "class T final : public U", "enum class T : int"):
            code, output = self.check(f"namespace n {{ {kind} {{ int x; }}; }}", "namespace n { struct T { double y; }; }")
            self.assertEqual(code, 1, output)
            self.assertIn("n::T: defined in lib/a.h and in passes/b.cpp", output)

    def test_types_of_one_place_are_allowed(self):
        for other in ("namespace m { struct T {}; }", "namespace n { namespace { struct T {}; } }", "namespace n { struct T; }",
                      "namespace n { void f() { struct T {}; } }", "namespace n { struct T::U {}; }",
                      "namespace n { // struct T {\n const char* s = \"struct T {\"; }"):
            code, output = self.check("namespace n { struct T { struct U; }; }", other)
            self.assertEqual(code, 0, output)


class Text(unittest.TestCase):
    def found(self, line, name="a.cpp"):
        code, output = check("text", {name: line + "\n"}, track=True)
        return code == 1 and f"{name}:1:" in output

    def test_finds(self):
        self.assertTrue(self.found("fetch https://py" + "pi.org/x"))
        self.assertTrue(self.found("// TO" + "DO later"))
        self.assertTrue(self.found("int x; "))
        self.assertFalse(self.found("int x;"))

    def test_markdown_may_end_lines_in_spaces(self):
        self.assertFalse(self.found("line break  ", "a.md"))


if __name__ == "__main__":
    unittest.main()
