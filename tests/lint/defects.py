# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each defect of tests/*/defects is text of its source still: one that is not is found by no test."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import defects  # noqa: E402


def main():
    bad = 0
    for folder in sorted(defects.ROOT.glob("tests/*/defects")):
        for defect in defects.read_folder(folder, ""):
            try:
                defect.source()
            except (OSError, ValueError) as error:
                bad += 1
                print(f"lint: {folder.relative_to(defects.ROOT)}: {defect.title}: {error}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
