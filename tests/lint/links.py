#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks the links of all pages: the file is there, and the heading where one is named. Files that sources and pages name by path are there, too."""

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"(?<![\w./(-])(docs/[a-z0-9/-]+(?:\.[a-z0-9-]+)*\.(?:md|json|yaml))\b")


def listed(*patterns):
    output = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *patterns], capture_output=True, text=True, check=True).stdout
    return [Path(line) for line in output.splitlines() if Path(line).is_file()]


def slug(heading):
    """As the forges make it: the words without marks, joined by hyphens."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().replace("`", ""))
    return re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")


def headings(path):
    fenced, found = False, set()
    for line in path.read_text().splitlines():
        fenced = fenced != line.startswith("```")
        heading = re.match(r"#+ (.*)", line)
        if heading and not fenced:
            found.add(slug(heading[1]))
    return found


def problems(page):
    for link in LINK.findall(page.read_text()):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists():
            yield f"{page}: {link} leads nowhere"
        elif anchor and anchor not in headings(target):
            yield f"{page}: {link}: no such heading"


def main():
    pages = listed("*.md")
    complaints = [text for page in pages for text in problems(page)]
    for path in [*pages, *listed("*.c", "*.h", "*.py", "*.in", "debian/*")]:
        complaints += [f"{path}: {name} is not there" for name in NAMED.findall(path.read_text(errors="replace")) if not Path(name).exists()]
    for text in complaints:
        print(f"links: {text}")
    if len(pages) < 10:
        print("links: no pages found")
    return 1 if complaints or len(pages) < 10 else 0


if __name__ == "__main__":
    sys.exit(main())
