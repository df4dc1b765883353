#!/usr/bin/env python3
"""One line a report: size, quality and speed of the compressed model against its original.

    summarise.py REPORT.json… > summary.md
"""
import json
import sys
from pathlib import Path


def line(path):
    report = json.loads(Path(path).read_text())
    return report


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(line(path))
