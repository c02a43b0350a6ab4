# SPDX-License-Identifier: LGPL-2.1-or-later
"""B17, SAFETY 4.22, decision 14: a run that is gone on with after a reboot of the host, whose guests are off, or not up yet."""
import os
import signal
import sqlite3
import time

import pytest

from program import events, wait_for

POLICY = "    pauseTimeBetweenBatches: PT1S\n"


@pytest.fixture(name="lab")
def fixture_lab(make_lab, request):
    lab = make_lab(3, f"reboot{list(request.session.items).index(request.node)}", batch=34, upgrade_domains=3, unhealthy=34,
                   policy=POLICY)
    yield lab
    if lab.status()["openRun"]:
        lab.program.run("cancel", lab.set_name)
        wait_for(lab, lambda status: status["openRun"] is None)


def left_open(lab):
    """A run of which one instance is done, and that is paused; killed."""
    lab.program("upgrade", lab.set_name, "--version", "2.0.0", "--detach")
    lab.program("pause", lab.set_name)
    status = wait_for(lab, lambda status: status["openRun"]["point"] == "paused")
    done = status["progress"]["successfulInstanceCount"]
    if done == 0:  # the word came before the first batch
        lab.program("resume", lab.set_name)
        wait_for(lab, lambda status: status["progress"]["inProgressInstanceCount"] == 1)
        lab.program("pause", lab.set_name)
        status = wait_for(lab, lambda status: status["openRun"]["point"] == "paused")
    assert status["progress"]["successfulInstanceCount"] == 1
    os.kill(int(status["lockHolder"].split("(pid ")[1].split(",")[0]), signal.SIGKILL)
    wait_for(lab, lambda status: status["lockHolder"] is None)


def reboot(lab):
    """As far as the run can see: its boot of the host is another one than now, and the guests are off."""
    for guest in lab.fleet:
        guest.destroy()
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    database = sqlite3.connect(f"{lab.program.root}/state.db", timeout=30)
    with database:
        changed = database.execute("UPDATE runs SET state = replace(state, ?, 'an-earlier-boot') WHERE completed_us = 0", (boot,))
    assert changed.rowcount == 1
    database.close()


def wait_waits(lab):
    return wait_for(lab, lambda status: status["openRun"] and status["openRun"]["hold"] == "reboot")


def wait_end(lab):
    return wait_for(lab, lambda status: status["openRun"] is None and status["lockHolder"] is None)


def test_guests_that_come_back_are_waited_for(lab):
    left_open(lab)
    reboot(lab)
    lab.program("resume", lab.set_name)
    status = wait_waits(lab)
    assert "the host was rebooted" in status["openRun"]["holdText"] and status["openRun"]["holdUntil"]
    assert "the host was rebooted" in lab.program("status", lab.set_name).out
    time.sleep(4)  # longer than a survey takes
    status = lab.status()
    assert status["openRun"]["hold"] == "reboot" and status["progress"]["inProgressInstanceCount"] == 0
    for guest in lab.fleet:
        guest.start()
    status = wait_end(lab)
    assert status["runningStatus"]["code"] == "Completed", status
    assert status["progress"]["successfulInstanceCount"] == 3 and lab.versions() == lab.all_on("2.0.0")
    assert [guest.is_running() for guest in lab.fleet] == [True] * 3  # moved while they ran: each was proven
    assert len([text for text in events(lab.program, "hold") if "the host was rebooted" in text]) == 1


def test_guests_that_do_not_are_down(lab):
    """None of them is moved while it is off: nobody would see whether the version works."""
    left_open(lab)
    reboot(lab)
    lab.program("resume", lab.set_name)
    wait_waits(lab)
    status = wait_end(lab)
    assert status["runningStatus"]["code"] == "Faulted", status
    assert status["progress"]["successfulInstanceCount"] == 1 and status["progress"]["failedInstanceCount"] == 0
    assert "before the host was rebooted, and is off since" in status["error"]["message"]


def test_one_that_was_off_before_is_not_waited_for(lab):
    """Decision 14: off on purpose, before the reboot and after it."""
    lab.fleet[2].destroy()
    left_open(lab)
    reboot(lab)
    lab.program("resume", lab.set_name)
    wait_waits(lab)
    for guest in lab.fleet[:2]:
        guest.start()
    status = wait_end(lab)
    assert status["runningStatus"]["code"] == "Completed", status
    assert lab.versions() == lab.all_on("2.0.0") and not lab.fleet[2].is_running()


def test_a_cancel_does_not_wait(lab):
    left_open(lab)
    reboot(lab)
    lab.program("resume", lab.set_name)
    wait_waits(lab)
    begun = time.monotonic()
    lab.program("cancel", lab.set_name)
    assert wait_end(lab)["runningStatus"]["code"] == "Cancelled"
    assert time.monotonic() - begun < 15
