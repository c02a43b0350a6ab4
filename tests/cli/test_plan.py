# SPDX-License-Identifier: LGPL-2.1-or-later
"""What plan says of disks and of time. B10, J10, decision 12."""
import os
import re
import subprocess
import time

import pytest

from lib import cheap_guest
from program import Program

KEPT = {"guestRestart": "kept", "hostRestart": "kept", "reimage": "kept", "upgrade": "kept"}


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "plan", guest={"temp": True}, more="tempDisks: [vdc]\n", batch=50,
                    policy="    pauseTimeBetweenBatches: PT2S\n  bakeTime: PT3S\n")


def seconds(text):
    number, unit = re.fullmatch(r"([0-9.]+) (ms|s)", text).groups()
    return float(number) / (1000 if unit == "ms" else 1)


def test_drives(lab):
    """B10, decision 12: each disk of the set by scenario, and it is what a run does (test_runs, B2)."""
    drives = lab.program.json("plan", lab.set_name)["drives"]
    assert drives == [
        {"target": "vda", "kind": "os", "instanceCount": 2, **KEPT, "reimage": "replaced", "upgrade": "replaced"},
        {"target": "vdb", "kind": "data", "instanceCount": 2, **KEPT},
        {"target": "vdc", "kind": "temp", "instanceCount": 2, **KEPT},
    ]
    rows = [line.split() for line in lab.program("plan", lab.set_name).out.splitlines() if line.startswith("vd")]
    assert rows == [["vda", "os", "2", "kept", "kept", "replaced", "replaced"],
                    ["vdb", "data", "2", "kept", "kept", "kept", "kept"],
                    ["vdc", "temp", "2", "kept", "kept", "kept", "kept"]]


def test_expected_duration(lab):
    """Nothing is said of what is not known; after a run its medians are, and hold for the next one."""
    plan = lab.program.json("plan", lab.set_name)
    assert plan["expectedDurationMs"] is None and plan["expectedOffMs"]["count"] == 0
    unknown = "expected downtime: not known: no run of this set has moved a guest yet, so nothing was measured; the waits between batches are 5.0 s\n"
    assert unknown in lab.program("plan", lab.set_name).out
    run = lab.program("--json", "upgrade", lab.set_name, "--version", "2.0.0").lines[-1]["run"]
    times = lab.program.json("history", lab.set_name, "--run", run["runId"])["times"]
    plan = lab.program.json("plan", lab.set_name)
    assert plan["expectedDurationMs"] == 2 * (times["prepareMs"]["p50"] + times["osDownMs"]["p50"]) + 5000
    assert plan["expectedOffMs"] == times["offMs"]
    out = lab.program("plan", lab.set_name).out
    found = re.search(r"expected duration: about (.*) for 2 batches and waits of 5.0 s: of each, preparation (.*), then down for (.*)\n", out)
    assert abs(seconds(found[1]) * 1000 - plan["expectedDurationMs"]) <= 100
    down = re.search(r"expected downtime: each guest about (.*) from its stop until it is healthy, at most (.*); of that off for about (.*), at most (.*); "
                     r"measured on 2 guests in the last run\n", out)
    assert plan["expectedOsDownMs"] == times["osDownMs"]
    for shown, known in zip(down.groups(), [times[key][which] for key in ("osDownMs", "offMs") for which in ("p50", "max")]):
        assert abs(seconds(shown) * 1000 - known) <= 100
    before = time.monotonic()
    lab.program("upgrade", lab.set_name)
    took = (time.monotonic() - before) * 1000
    assert plan["expectedDurationMs"] / 2 < took < plan["expectedDurationMs"] * 3
    assert "measured on 4 guests in the last 2 runs\n" in lab.program("reimage", lab.set_name, "--all", "--dry-run").out


def test_a_rollback_is_compared_with_rollbacks(lab):
    """It bakes nothing and prepares nothing: what runs forward took is not said of it."""
    plan = lab.program.json("rollback", lab.set_name, "--all", "--dry-run")
    assert plan["expectedDurationMs"] is None
    lab.program("rollback", lab.set_name, "--all")
    plan = lab.program.json("rollback", lab.set_name, *lab.names, "--dry-run")
    assert plan["expectedDurationMs"] is not None


def grows(answer):
    return [line for line in answer["warnings"] if "when all OS disks" in line]


def test_room_when_all_disks_are_full(lab):
    """What is on the store already grows too. It is said, and refuses nothing."""
    root = lab.program.path("narrow")
    os.mkdir(root, 0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0711", "tmpfs", root], check=True)
    try:
        narrow = Program(root, lab.program.work)
        image = cheap_guest.write_os_disk(narrow.path("wide.raw"), "9.0.0", size=40 << 20)
        narrow("image-publish", "cheap", "9.0.0", image)
        narrow("set-define", "-", stdin=narrow.model("one", lab.names[:1]))
        plan = narrow.json("plan", "one")
        assert grows(plan) == [] and plan["space"]["maximumGrowthBytes"] == 40 << 20
        narrow("upgrade", "one")
        narrow("set-define", "-", stdin=narrow.model("two", lab.names[1:]))
        plan = narrow.json("plan", "two")
        (warning,) = grows(plan)
        assert root in warning and "is paused" in warning
        assert 79 << 20 < plan["space"]["maximumGrowthBytes"] < 80 << 20
        again = narrow.json("reimage", "one", "--all", "--dry-run")  # its current disk rests then
        assert grows(again) == [] and again["space"]["maximumGrowthBytes"] == 40 << 20
        narrow("rollback", "one", "--all")
    finally:
        subprocess.run(["umount", "-l", root], check=True)
