# SPDX-License-Identifier: LGPL-2.1-or-later
"""B19, invariant 22: the process of a run is stopped in the middle of a swap; what others may do then, and what it does when it goes on."""
import os
import signal
import sqlite3

import pytest

from program import DONE, FAILED, OWNED, events, wait_stopped

POINTS = ["swapping", "probing"]  # being stopped, redefined or started; or up, and asked for its health


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "owner", batch=50)


def new_version(lab):
    """None of its guests runs it."""
    return min({"1.0.0", "2.0.0", "3.0.0"} - set(lab.versions().values()))


def stopped_run(lab, version, at):
    """Its first guest has come to `at`."""
    run = lab.program.start("upgrade", lab.set_name, "--version", version)
    run.wait_line(at)
    wait_stopped(lab.program, run)
    return run


def end(run):
    _, err = run.communicate(timeout=60)
    assert "Sanitizer" not in err, err
    return run.returncode, err


def fence(lab):
    database = sqlite3.connect(f"file:{lab.program.root}/state.db?mode=ro", uri=True)
    try:
        return database.execute("SELECT fence FROM owners WHERE set_name = ?", (lab.set_name,)).fetchone()[0]
    finally:
        database.close()


def without(snapshot, paths):
    return {path: seen for path, seen in snapshot.items() if path not in paths}


def is_settled(lab, version):
    assert lab.status()["openSwapCount"] == 0
    lab.program("upgrade", lab.set_name, "--version", version)
    assert lab.versions() == lab.all_on(version)
    assert all(guest.is_running() for guest in lab.fleet)


@pytest.mark.parametrize("at", POINTS)
def test_refuses_others_and_goes_on(lab, at):
    """Stopped or not it has the set; who is refused is told its pid and what to do. Then it goes on as if nothing had been."""
    version = new_version(lab)
    run = stopped_run(lab, version, at)
    before = fence(lab)
    for command in ("upgrade", "recover", "apply"):
        line = lab.program(command, lab.set_name, status=OWNED).error()
        assert f"(pid {run.pid}, by " in line and "is stopped" in line and f"kill -CONT {run.pid}" in line
    assert f"kill -KILL {run.pid}" in lab.program("recover", lab.set_name, "--dry-run").out
    assert fence(lab) == before and run.poll() is None
    run.send_signal(signal.SIGCONT)
    status, err = end(run)
    assert status == DONE, err
    assert lab.versions() == lab.all_on(version)
    assert not [text for text in events(lab.program, "took-over") if f"pid {run.pid}" in text]
    is_settled(lab, version)


def test_hears_a_replace_when_it_goes_on(lab):
    """D21: --replace asks it to end, waits 10 s for a word, and begins nothing; what was asked is done once it goes on."""
    version = new_version(lab)
    run = stopped_run(lab, version, "swapping")
    line = lab.program("upgrade", lab.set_name, "--version", version, "--replace", status=FAILED).error()
    assert f"(pid {run.pid}, by " in line and "may hear this later" in line and f"kill -CONT {run.pid}" in line
    run.send_signal(signal.SIGCONT)
    status, err = end(run)
    assert status in (DONE, FAILED), err
    assert lab.status()["runningStatus"]["code"] == ("Completed" if status == DONE else "Cancelled")
    is_settled(lab, version)


@pytest.mark.parametrize("at", POINTS)
def test_killed_it_is_taken_over_from(lab, at):
    version = new_version(lab)
    run = stopped_run(lab, version, at)
    before = fence(lab)
    run.kill()
    end(run)
    told = lab.program("upgrade", lab.set_name, "--version", version).err
    assert f"taken over from upgrade {lab.set_name} (pid {run.pid}, by " in told and "without giving it back" in told
    assert "recovered: " in told and fence(lab) > before
    assert f"pid {run.pid}" in events(lab.program, "took-over")[-1]
    is_settled(lab, version)


@pytest.mark.parametrize("at", POINTS)
def test_without_its_lock_it_wakes_fenced(lab, at):
    """Somebody removes its lock file: another takes over and settles the swap, and what wakes up changes nothing."""
    version = new_version(lab)
    run = stopped_run(lab, version, at)
    before = fence(lab)
    os.unlink(f"{lab.program.root}/locks/{lab.set_name}")
    told = lab.program("recover", lab.set_name).err
    assert "lock file had been removed" in told and "recovered: " in told and fence(lab) == before + 1
    seen = lab.program.snapshot()
    domains = [(guest.domain.ID(), guest.domain.XMLDesc(2)) for guest in lab.fleet]
    run.send_signal(signal.SIGCONT)
    status, err = end(run)
    assert status != DONE and "another owner" in err
    own = [path for path in seen if "/.tmp-" in path]  # of a disk that it was preparing: nobody's but its own
    assert without(lab.program.snapshot(), own) == without(seen, own)
    assert [(guest.domain.ID(), guest.domain.XMLDesc(2)) for guest in lab.fleet] == domains
    is_settled(lab, version)
