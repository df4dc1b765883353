#!/usr/bin/env python3
"""com.microsoft operators, and quantized standard ones, against ONNX Runtime on random inputs: every variant of the tables
in contrib_cases_*.py, with and without fusion. Prints how many variants of each operator ran.

    test_contrib_operators.py RUN_MODELS [OPERATOR]
"""
import collections
import sys

import contrib_cases_attention
import contrib_cases_quantized
import contrib_cases_simple
from executor import Executor, Refused, difference


def check(executor, case):
    """What is wrong; empty when nothing is."""
    try:
        expected = case.expected()
    except Exception as error:  # the session's own exception types are not public
        return f"ONNX Runtime refuses the case: {error}"
    for fusion in ("none", "full"):
        try:
            found = executor.run(case.model(), case.feeds(), fusion)
        except Refused as refusal:
            return str(refusal)
        for name, want in expected.items():
            have = found[name]
            if case.valid:
                want, have = case.valid(int(name[1:]), want), case.valid(int(name[1:]), have)
            wrong = difference(want, have, case.tolerance)
            if wrong:
                return f"output {name[1:]}, fusion {fusion}: {wrong}"
    return ""


def main():
    wanted = sys.argv[2] if len(sys.argv) > 2 else None
    ran, failed = collections.Counter(), 0
    with Executor(sys.argv[1]) as executor:
        for table in (contrib_cases_attention, contrib_cases_simple, contrib_cases_quantized):
            for case in table.cases():
                if wanted and case.operator != wanted:
                    continue
                wrong = check(executor, case)
                ran[case.operator] += 1
                if wrong:
                    failed += 1
                    print(f"FAILED {case.describe()}\n    {wrong}")
    for operator, count in sorted(ran.items()):
        print(f"{operator}: {count} variants")
    print(f"{sum(ran.values())} variants of {len(ran)} operators, {failed} failed")
    return failed != 0 or not ran


if __name__ == "__main__":
    sys.exit(main())
