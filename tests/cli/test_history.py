# SPDX-License-Identifier: LGPL-2.1-or-later
"""J1, J4: the history as a scale set's osUpgradeHistory shows it: upgrades, the last five, of two months."""
import os
import sqlite3
import time

from program import IMAGE, NO_LIBVIRT, USAGE

UPGRADE, REIMAGE, ROLLBACK = range(3)
COMPLETED, FAULTED = 2, 3
COMMITTED, RESTORED, SKIPPED = 9, 10, 1
DAY_US = 86400 * 1000000


def add_run(program, number, kind, days_ago, status=COMPLETED, phases=(COMMITTED,), error=(None, None)):
    """A run as vr_history_begin() and _end() leave it."""
    started = int(time.time() * 1000000) - days_ago * DAY_US
    db = sqlite3.connect(os.path.join(program.root, "state.db"))
    db.execute("INSERT INTO runs (id, set_name, kind, status, image, version, started_by, started_us, completed_us, error_code,"
               " error_text) VALUES (?, 'shop', ?, ?, ?, '3.0.0', 'somebody', ?, ?, ?, ?)",
               (f"run-{number}", kind, status, IMAGE, started, started + 1000000, *error))
    for i, phase in enumerate(phases):
        db.execute("INSERT INTO run_instances (run_id, ordinal, uuid, domain, batch, phase) VALUES (?, ?, ?, ?, 1, ?)",
                   (f"run-{number}", i, f"00000000-0000-0000-0000-00000000000{i}", f"d{i}", phase))
    db.commit()
    db.close()


def azure(program):
    return program("-c", NO_LIBVIRT, "history", "shop", "--azure").json["value"]


def test_the_last_five_upgrades_of_two_months(defined):
    assert azure(defined) == []
    for number, days_ago in enumerate((80, 63, 50, 40, 30, 20, 10)):
        add_run(defined, number, UPGRADE, days_ago)
    add_run(defined, 7, REIMAGE, 5)
    add_run(defined, 8, ROLLBACK, 4)
    add_run(defined, 9, UPGRADE, 3, FAULTED, (COMMITTED, RESTORED, RESTORED, SKIPPED), ("InternalExecutionError", "why"))
    runs = azure(defined)
    assert len(runs) == 5
    starts = [run["properties"]["runningStatus"]["startTime"] for run in runs]
    assert starts == sorted(starts, reverse=True)
    newest = runs[0]["properties"]
    assert runs[0]["type"] == "Microsoft.Compute/virtualMachineScaleSets/rollingUpgrades"
    assert newest["runningStatus"]["code"] == "Faulted" and newest["error"]["code"] == "InternalExecutionError"
    assert newest["progress"] == {"successfulInstanceCount": 1, "failedInstanceCount": 2, "inProgressInstanceCount": 0,
                                  "pendingInstanceCount": 0}
    assert newest["rollbackInfo"] == {"successfullyRolledbackInstanceCount": 2, "failedRolledbackInstanceCount": 0}
    assert newest["startedBy"] == "User" and newest["targetImageReference"]["version"] == "3.0.0"
    assert set(newest) <= {"runningStatus", "progress", "error", "startedBy", "targetImageReference", "rollbackInfo"}
    assert len(defined("-c", NO_LIBVIRT, "--json", "history", "shop").json["runs"]) == 10


def test_what_is_older_than_two_months_is_not_shown(defined):
    add_run(defined, 0, UPGRADE, 63)
    add_run(defined, 1, UPGRADE, 57)
    assert [run["properties"]["runningStatus"]["code"] for run in azure(defined)] == ["Completed"]


def test_one_run_has_no_such_shape(defined):
    assert "--run" in defined.fails(USAGE, "history", "shop", "--azure", "--run", "x")


def test_history_is_pruned_at_the_end_of_a_run(defined, fleet):
    """... and a rollback of one instance still goes as far back as its disks do."""
    names = [guest.name for guest in fleet]
    model = defined.model("shop", names, more="retention: {runs: 2, runsMaxAge: P1D, generations: 9}\n")
    defined("set-define", "-", stdin=model)
    name = names[0]
    defined("adopt", "shop", name, "--version", "1.0.0")
    for _ in range(4):
        defined("reimage", "shop", name)
    runs = defined.json("history", "shop")["runs"]
    assert [run["operation"] for run in runs] == ["reimage"] * 2
    for generation in (3, 2, 1, 0):
        defined("rollback", "shop", name)
        assert defined.json("instance-view", "shop", name)["generation"] == generation
    # the last one forward that moved anything is kept beside the two that are newest
    assert [run["operation"] for run in defined.json("history", "shop")["runs"]] == ["rollback", "rollback", "reimage"]
