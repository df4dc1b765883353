#!/usr/bin/env python3
"""Checks the text of the tracked files: no package registry's host name (packages are asked for by name, so that any
mirror works), no unfinished-work marker, no trailing space. Exits 1 with one line per finding.

    check_text.py [ROOT]
"""
import re
import subprocess
import sys
from pathlib import Path

RULES = [
    (re.compile(r"\b(pypi|pythonhosted|maven|apache|sonatype|npmjs|crates|debian|golang)\.(org|io|com)\b", re.IGNORECASE),
     "a registry's host name", {".md"}),
    (re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b"), "a marker of unfinished work", set()),
    (re.compile(r"[ \t]+$"), "trailing space", {".md", ".txt"}),
]
TEXT = {".h", ".cpp", ".py", ".sh", ".md", ".txt", ".cmake", ".json", ".lock", ""}
# Third-party text: kept as it came.
KEPT = ("tests/data/zoo/", "LICENSE")


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    names = subprocess.run(["git", "-C", root, "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
    count, found = 0, []
    for name in filter(None, names.split("\0")):
        path = root / name
        if path.suffix not in TEXT or name.startswith(KEPT) or not path.is_file() or path.is_symlink():
            continue
        count += 1
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            found += [f"{name}:{number}: {what}" for pattern, what, except_for in RULES
                      if path.suffix not in except_for and pattern.search(line)]
    print("\n".join(found + [f"check_text: {count} files, {len(found)} findings"]))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
