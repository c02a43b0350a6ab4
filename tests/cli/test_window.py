# SPDX-License-Identifier: LGPL-2.1-or-later
"""H3, H4: what is said of a set's maintenance window, and a run that keeps to it, by a wall clock that the test sets."""
import json
import os
import sqlite3
import time
from datetime import datetime, timezone

import pytest

from program import FAILED, REFUSED
from test_controls import detach, kill, wait_end, wait_first_batch, wait_point
from test_define import define
from test_sets import names

WINDOW = 'maintenanceWindow: {schedule: "Sat *-*-* 02:00 Europe/Berlin", duration: PT4H}\n'


@pytest.fixture(name="wall")
def fixture_wall(tmp_path, monkeypatch):
    """Sets the wall clock of the programs that follow."""
    file = tmp_path / "clock"
    monkeypatch.setenv("VIRT_REIMAGE_TEST_CLOCK", str(file))

    def set_wall(text):
        moment = datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()
        file.write_text(f"{round(moment - time.time())}\n")
    return set_wall


def windowed(defined, fleet):
    define(defined, defined.model("shop", names(fleet)) + WINDOW)
    return defined


def test_in_json(defined, fleet, wall):
    program = windowed(defined, fleet)
    expected = {"schedule": "Sat *-*-* 02:00 Europe/Berlin", "durationSeconds": 14400, "error": None}
    for now, open_now, until, opens in (
            ("2026-11-27T12:00", False, None, "2026-11-28T01:00:00.000Z"),
            ("2026-11-28T01:01", True, "2026-11-28T05:00:00.000Z", "2026-12-05T01:00:00.000Z"),
            ("2026-11-28T05:01", False, None, "2026-12-05T01:00:00.000Z")):
        wall(now)
        window = {**expected, "open": open_now, "openUntil": until, "opensNext": opens}
        assert program.json("set-info", "shop")["maintenanceWindow"] == window
        assert program.json("plan", "shop")["maintenanceWindow"] == window


def test_for_a_person(defined, fleet, wall):
    program = windowed(defined, fleet)
    wall("2026-11-27T12:00")
    opens = datetime(2026, 11, 28, 1, tzinfo=timezone.utc).astimezone().strftime("%F %T")
    line = f"Sat *-*-* 02:00 Europe/Berlin, for 4 h 00 min; shut, opens {opens}"
    (info,) = [one for one in program("set-info", "shop").out.splitlines() if one.startswith("Window")]
    assert info.split(maxsplit=1)[1] == line
    assert (f"maintenance window: {line}; a run that begins by itself begins its batches in it, one that you begin does not "
            "wait for it\n") in program("plan", "shop").out


def test_nobody_can_say(defined, fleet, monkeypatch, tmp_path):
    """A set stays readable where systemd-analyze does not work; one with a window cannot be defined there."""
    program = windowed(defined, fleet)
    tool = tmp_path / "systemd-analyze"
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    window = program.json("set-info", "shop")["maintenanceWindow"]
    assert window["open"] is None and "what is not understood" in window["error"]
    assert "what is not understood" in program("set-info", "shop").out
    model = program("set-dump", "shop").out
    assert "what is not understood" in define(program, model, status=FAILED).error()
    assert program("set-dump", "shop").out == model


def test_without(defined):
    assert defined.json("set-info", "shop")["maintenanceWindow"] is None
    assert defined.json("plan", "shop")["maintenanceWindow"] is None
    assert "Window" not in defined("set-info", "shop").out and "maintenance window" not in defined("plan", "shop").out


# --- a run that keeps to it ---

NIGHTLY = 'maintenanceWindow: {schedule: "*-*-* 02:00 UTC", duration: PT1H}\n'
SHUT = "the maintenance window is shut: it opens at 2026-11-28T02:00:00.000Z"


def as_if_by_itself(lab):
    """A run that a person began, and whose process is gone, is one that began by itself."""
    with sqlite3.connect(os.path.join(lab.program.root, "state.db")) as db:
        (text,) = db.execute("SELECT state FROM runs WHERE completed_us = 0").fetchone()
        assert json.loads(text)["windowed"] is False
        db.execute("UPDATE runs SET state = ? WHERE completed_us = 0", (json.dumps({**json.loads(text), "windowed": True}),))


def test_a_run_waits_for_its_window(make_lab, wall):
    lab = make_lab(2, "window", batch=50, upgrade_domains=2, policy="  approval: true\n", more=NIGHTLY)
    wall("2026-11-27T12:00")
    run = detach(lab, "2.0.0")
    wait_point(lab, "approval")
    kill(lab)
    as_if_by_itself(lab)
    lab.program("approve", lab.set_name)
    status = wait_point(lab, "window")
    where = status["openRun"]
    assert where["hold"] == "window" and where["holdText"] == SHUT and not status["locked"]
    until = datetime.fromisoformat(where["holdUntil"].replace("Z", "+00:00"))
    assert abs(until.timestamp() - datetime(2026, 11, 28, 2, tzinfo=timezone.utc).timestamp()) < 5
    assert SHUT in lab.program("status", lab.set_name).out
    for word in ("resume", "promote"):
        assert "which no command opens" in lab.program(word, lab.set_name, status=REFUSED).error()
        assert "which no command opens" in lab.program(word, lab.set_name, "--dry-run", status=REFUSED).error()

    wall("2026-11-28T02:30")  # it is looked at each ten seconds
    wait_first_batch(lab)
    wall("2026-11-28T04:00")  # what has begun is done; the other one waits for the next night
    status = wait_point(lab, "window")
    assert status["openRun"]["holdText"].endswith("it opens at 2026-11-29T02:00:00.000Z")
    assert sorted(lab.versions().values()) == ["1.0.0", "2.0.0"]
    wall("2026-11-29T02:00")
    wait_end(lab)
    assert lab.versions() == lab.all_on("2.0.0")
    told = [one for one in lab.program.json("history", lab.set_name, "--run", run)["events"] if one["kind"] == "hold"]
    assert [one["text"] for one in told if "window" in one["text"]] == [SHUT, status["openRun"]["holdText"]]


def test_a_person_does_not_wait(make_lab, wall):
    lab = make_lab(1, "byhand", more=NIGHTLY)
    wall("2026-11-27T12:00")
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    assert lab.versions() == lab.all_on("2.0.0")
