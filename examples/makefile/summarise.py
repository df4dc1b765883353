#!/usr/bin/env python3
"""A Markdown table with one line for each report: size, quality and speed of the compressed model.

    summarise.py REPORT.json… > summary.md
"""
import json
import sys
from pathlib import Path


def quality(evaluation):
    """The share of right predictions and its change; token by token where the labels are."""
    before, after = (evaluation[which]["metrics"] for which in ("original_task", "compressed_task"))
    name = next(name for name in ("accuracy", "token_accuracy") if name in after)
    return after[name]["value"], after[name]["value"] - before[name]["value"]


def line(path):
    report = json.loads(Path(path).read_text())
    right, change = quality(report["evaluation"])
    missed = [row["name"] for row in report["constraints"] if row["outcome"] == "missed"]
    return (f"| {Path(path).stem} | {report['compressed']['file']['bytes']:,} | {report['ratios']['file_bytes']:.3f} "
            f"| {right:.3f} | {change:+.3f} | {report['evaluation']['latency']['speedup']:.2f} | {', '.join(missed)} |")


if __name__ == "__main__":
    print("| run | bytes | of the original | accuracy | change | speed-up | missed |\n|---|---|---|---|---|---|---|")
    for argument in sys.argv[1:]:
        print(line(argument))
