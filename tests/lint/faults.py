#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks docs/faults.md: every step has a line for every fault, and every test that is named is there.

A line: | step | fault | tests |   tests: `FILE:FUNCTION`, separated by commas, or a dash.
"""

import re
import sys
from pathlib import Path

STEPS = ("I", "P, S1", "S2-S4", "S6-S7", "S8-S10", "S11", "S12", "S13-S14", "R1-R5")
FAULTS = ("killed", "power loss", "I/O error, no space", "libvirt", "guest", "someone else")


def lines(text):
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and cells[0] in STEPS:
            yield cells


def has_function(path, name):
    word = r"def %s\(" if path.suffix == ".py" else r"^(?:static )?[\w \*]*\b%s\("
    return re.search(word % re.escape(name), path.read_text(), re.MULTILINE) is not None


def problems(step, fault, tests):
    named = re.findall(r"`(tests/[^`:]+):(\w+)`", tests)
    if not named and tests != "-":
        yield f"{step}, {fault}: no test is named"
    for file, function in named:
        path = Path(file)
        if not path.is_file() or not has_function(path, function):
            yield f"{step}, {fault}: there is no {function} in {file}"


def main():
    found = list(lines(Path(sys.argv[1]).read_text()))
    complaints = [text for line in found for text in problems(*line)]
    cells = [(step, fault) for step, fault, _ in found]
    complaints += [f"{step}, {fault}: no line" for step in STEPS for fault in FAULTS if cells.count((step, fault)) != 1]
    for text in complaints:
        print(f"faults: {text}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
