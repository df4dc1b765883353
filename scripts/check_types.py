#!/usr/bin/env python3
"""Checks that a type of a named namespace is defined in one file: two of one name are one type to the linker, whatever they
hold, and which of the two a template was made for is chance. Exits 1 with one line per violation.

    check_types.py [ROOT]
"""
import re
import sys
from collections import defaultdict
from pathlib import Path

NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
BRACE = re.compile(r"namespace\s*(?P<space>[\w:]*)\s*\{|"
                   r"\b(?:struct|class|union|enum(?:\s+class)?)\s+(?P<type>[\w:]+?)\s*(?:final\s*)?(?::(?!:)[^;{}()]*)?\{|[{}]")
ANONYMOUS = "an anonymous namespace"


def definitions(text):
    """Full names of the types that are defined in named namespaces, those inside functions left out."""
    scopes = []  # of the open braces: a name, or None inside a function or an initializer
    for match in BRACE.finditer(NOT_CODE.sub(" ", text)):
        if match.group() == "}":
            if scopes:
                scopes.pop()
        elif match.group("space") is not None:
            scopes.append(match.group("space") or ANONYMOUS)
        elif match.group("type"):
            if None not in scopes and ANONYMOUS not in scopes:
                yield "::".join([*scopes, match.group("type")])
            scopes.append(match.group("type"))
        else:
            scopes.append(None)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    files = sorted(file for top in ("apps", "passes", "lib", "kernels") for file in (root / top).rglob("*")
                   if file.suffix in (".h", ".cpp"))
    if not files:
        sys.exit(f"check_types: no sources under {root}")
    places = defaultdict(set)
    for file in files:
        for name in definitions(file.read_text()):
            places[name].add(file.relative_to(root).as_posix())
    found = [f"{name}: defined in {' and in '.join(sorted(where))}" for name, where in sorted(places.items()) if len(where) > 1]
    print("\n".join([*found, f"check_types: {len(files)} files, {len(places)} types, {len(found)} violations"]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
