# SPDX-License-Identifier: LGPL-2.1-or-later
"""H3, H4: what is said of a set's maintenance window, by a wall clock that the test sets."""
import os
import time
from datetime import datetime, timezone

import pytest

from program import FAILED
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
