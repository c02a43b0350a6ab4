#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks docs/features.md: a row that says it works names a test file that exists and that names the row's id.

Row form: | id | feature | state | proof |   state: works, partly, not yet, not applicable
Proof: test files separated by commas; `works` and `partly` need at least one.
"""

import re
import sys
from pathlib import Path

STATES = {"works", "partly", "not yet", "later", "not applicable"}


def rows(text):
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 4 and re.fullmatch(r"[A-L]\d+", cells[0]):
            yield cells


def problems(identity, state, proof):
    if state not in STATES:
        yield f"{identity}: '{state}' is not a state"
    if state not in ("works", "partly"):
        return
    files = re.findall(r"`(tests/[^`]+)`", proof)
    if not files:
        yield f"{identity} says it is {state}, but no test is named"
    for name in files:
        path = Path(name)
        if not path.is_file():
            yield f"{identity}: {name} does not exist"
        elif not re.search(rf"\b{identity}\b", path.read_text()):
            yield f"{identity}: {name} does not name the row"


def main():
    found = list(rows(Path(sys.argv[1]).read_text()))
    complaints = [text for row in found for text in problems(row[0], row[2], row[3])]
    seen = [row[0] for row in found]
    complaints += [f"{identity} stands twice" for identity in sorted(set(seen)) if seen.count(identity) > 1]
    for text in complaints:
        print(f"features: {text}")
    if not found:
        print("features: no row found")
    return 1 if complaints or not found else 0


if __name__ == "__main__":
    sys.exit(main())
