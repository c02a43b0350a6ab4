#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Adds up the JUnit files of a test run: summary.py RESULTS EXPECTED-SKIPS [FAILED STAGE...]."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def cases(results):
    for path in sorted(Path(results).glob("*.xml")):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            yield f"{path.stem}/{case.get('name')}", case


def outcome(case):
    if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
        return "failed"
    if case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
        return "skipped"
    return "passed"


def main():
    results, expected_file, *failed_stages = sys.argv[1:]
    expected = {line.split("#")[0].strip() for line in Path(expected_file).read_text().splitlines()} - {""}
    count = {"passed": 0, "failed": 0, "skipped": 0}
    surprises = []
    for name, case in cases(results):
        kind = outcome(case)
        count[kind] += 1
        if kind == "skipped" and name not in expected:
            surprises.append(name)
    for stage in failed_stages:
        print(f"failed stage: {stage}")
    for name in surprises:
        print(f"skipped, and not expected to be: {name}")
    bad = count["failed"] + len(surprises)
    if failed_stages and bad == 0:
        count["failed"] += len(failed_stages)
    print(f"{count['passed']} passed, {count['failed'] + len(surprises)} failed, {count['skipped'] - len(surprises)} skipped")
    return 1 if bad or failed_stages or count["passed"] == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
