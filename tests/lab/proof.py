#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Notes what the lab's guests are, and proves by comparing what a command changed and kept.

usage: proof.py note FILE GUEST...
       proof.py compare FILE --version V [--booted all|one|none] GUEST...

`note` writes the facts of the running guests and the digests of the OS disks that are kept
(those that no guest uses any more).  `compare` prints a table, and exits 1 unless every guest
runs version V and kept its identity, its data and its temp disk, and every OS disk that was
out of use when the note was taken is still there, byte for byte.
"""
import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guest import Guest, GuestError, file_facts

HEADINGS = ("guest", "version", "boot", "uuid, mac, pci", "data disk", "temp disk", "old OS disk")


def facts_of(names):
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: Guest(name).facts(), names)))


def rebooted(before, after):
    """The guests that run another boot now."""
    return [name for name in before if before[name]["inside"]["boot_id"] != after[name]["inside"]["boot_id"]]


def assert_same_machines(before, after):
    """Rows B2 and B3: the same machine with the same data; nothing but the OS disk changed."""
    for name, was in before.items():
        now = after[name]
        assert now["identity"] == was["identity"], name
        for key in ("payload_sha256", "payload_inode", "temp_marker"):
            assert now["inside"][key] == was["inside"][key] != "", (name, key)
        for disk in ("vdb", "vdc"):
            assert now["disks"][disk] == was["disks"][disk], (name, disk)


def os_disk(facts):
    return facts["disks"]["vda"]


def note(path, names):
    """Adds to the file the facts of now; remembers every OS disk seen, with its digest once
    it is out of use (a disk in use changes all the time)."""
    old = json.loads(path.read_text()) if path.exists() else {"guests": {}, "kept": {}}
    guests = facts_of(names)
    kept = {}
    for name, facts in guests.items():
        seen = set(old["kept"].get(name, {}))
        if name in old["guests"]:
            seen.add(os_disk(old["guests"][name]))
        kept[name] = {disk: file_facts(disk)["sha256"] for disk in sorted(seen)
                      if disk != os_disk(facts) and Path(disk).exists()}
    path.write_text(json.dumps({"guests": guests, "kept": kept}, indent=2) + "\n")


def same(is_same, word="same"):
    return (word, True) if is_same else ("CHANGED", False)


def version_cell(after, version):
    found = after["inside"]["version"]
    return found, found == version


def data_cell(before, after):
    ours = before["inside"], after["inside"]
    return same(all(ours[0][key] == ours[1][key] for key in ("payload_sha256", "payload_inode")),
                f"same payload, boot {after['inside']['boots']}")


def temp_cell(before, after):
    marker = before["inside"]["temp_marker"]
    return same(marker != "" and marker == after["inside"]["temp_marker"], "kept")


def old_disk_cell(before, after, kept):
    """The disk of before, if it was replaced, and the older ones, byte for byte."""
    previous = os_disk(before)
    moved = previous != os_disk(after)
    if moved and not Path(previous).exists():
        return "GONE", False
    for disk, digest in kept.items():
        if disk == os_disk(after):
            continue                                    # in use again: it was rolled back to
        if not Path(disk).exists():
            return "GONE", False
        if file_facts(disk)["sha256"] != digest:
            return "CHANGED", False
    unchanged = [disk for disk in kept if disk != os_disk(after)]
    if moved:
        return "kept", True
    return (f"{len(unchanged)} unchanged" if unchanged else "-"), True


def row(name, before, after, kept, version):
    """The cells of one guest: (text, is it as it should be)."""
    rebooted = before["inside"]["boot_id"] != after["inside"]["boot_id"]
    return [(name, True),
            version_cell(after, version),
            ("new" if rebooted else "same", True),
            same(before["identity"] == after["identity"]),
            data_cell(before, after),
            temp_cell(before, after),
            old_disk_cell(before, after, kept)], rebooted


def print_table(rows):
    texts = [HEADINGS, *([text for text, _ in cells] for cells in rows)]
    widths = [max(len(line[column]) for line in texts) for column in range(len(HEADINGS))]
    for line in texts:
        print("  " + "   ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())


def compare(path, names, version, booted):
    noted = json.loads(path.read_text())
    now = facts_of(names)
    rows, rebooted = [], 0
    for name in names:
        cells, was_rebooted = row(name, noted["guests"][name], now[name],
                                  noted["kept"].get(name, {}), version)
        rows.append(cells)
        rebooted += was_rebooted
    print_table(rows)
    wanted = {"all": len(names), "one": 1, "none": 0}[booted]
    wrong = [f"{cells[0][0]}: {heading}: {text}" for cells in rows
             for heading, (text, is_right) in zip(HEADINGS, cells) if not is_right]
    if rebooted != wanted:
        wrong.append(f"{rebooted} guests were booted anew, expected {wanted}")
    return wrong


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("verb", choices=["note", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("guests", nargs="+")
    parser.add_argument("--version")
    parser.add_argument("--booted", choices=["all", "one", "none"], default="all")
    options = parser.parse_args()
    try:
        if options.verb == "note":
            return note(options.file, options.guests)
        wrong = compare(options.file, options.guests, options.version, options.booted)
    except (GuestError, OSError) as error:
        sys.exit(f"error: {error}")
    if wrong:
        sys.exit("error: not proven:\n  " + "\n  ".join(wrong))


if __name__ == "__main__":
    main()
