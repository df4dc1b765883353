#!/usr/bin/env python3
"""Wall time and peak memory of whole processes, as a user pays for them.

    process_cost.py [--rounds N] [--json] -- COMMAND…
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def cost(command):
    """(seconds, peak resident MB, exit code) of one run."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    return seconds, usage.ru_maxrss / 1024, process.returncode


def summary(runs):
    return {"seconds": statistics.median(run[0] for run in runs), "seconds_best": min(run[0] for run in runs),
            "peak_mb": max(run[1] for run in runs), "exit_code": max(run[2] for run in runs)}


def repeated(command, rounds=3):
    """The same from within a program that may be large itself: a child's peak counts what its parent held when it
    forked, so this script, which holds little, is the parent."""
    run = subprocess.run([sys.executable, "-S", __file__, "--json", "--rounds", str(rounds), "--", *command],
                         stdout=subprocess.PIPE, check=False)
    return json.loads(run.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    found = summary([cost(arguments.command) for _ in range(arguments.rounds)])
    if arguments.json:
        print(json.dumps(found))
    else:
        print(f"median {found['seconds']:.3f} s, best {found['seconds_best']:.3f} s, peak {found['peak_mb']:.0f} MB, "
              f"exit code {found['exit_code']}")
    sys.exit(found["exit_code"])
