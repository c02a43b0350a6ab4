# SPDX-License-Identifier: LGPL-2.1-or-later
"""B17, G2: Ctrl-C once and twice, and a run that is killed; the next command goes on from a guest that is on old or new."""
import signal

import pytest

from program import DONE, FAILED, crashing_image, without_place


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "cut", batch=50)


def finish(process):
    out, err = process.communicate(timeout=90)
    assert "Sanitizer" not in err, err
    return process.returncode, out, err


def test_ctrl_c_ends_at_the_batch_border(lab):
    run = lab.program.start("upgrade", lab.set_name, "--version", "2.0.0")
    run.wait_line("swapping")
    run.send_signal(signal.SIGINT)
    status, out, err = finish(run)
    assert status == FAILED and "finishing the batch" in err and "cancelled: 1 done, 0 put back, 1 not begun" in err
    assert f"'virt-reimage upgrade {lab.set_name}'" in without_place(err)
    assert lab.versions() == {lab.names[0]: "2.0.0", lab.names[1]: "1.0.0"}
    shown = lab.status()
    assert shown["runningStatus"]["code"] == "Cancelled" and shown["runningStatus"]["lastAction"] == "Cancel"
    assert shown["progress"]["pendingInstanceCount"] == 1


def test_twice_puts_back_what_is_in_flight(lab):
    run = lab.program.start("upgrade", lab.set_name, "--version", "2.0.0")
    run.wait_line("probing")
    run.send_signal(signal.SIGINT)
    assert "Ctrl-C again" in run.stderr.readline() + run.stderr.readline()
    run.send_signal(signal.SIGINT)
    status, _, err = finish(run)
    assert status == FAILED and "putting the guests in flight back" in err
    assert lab.versions() == {lab.names[0]: "2.0.0", lab.names[1]: "1.0.0"}


def test_killed_between(lab):
    run = lab.program.start("upgrade", lab.set_name, "--version", "2.0.0")
    run.wait_line("probing")
    run.kill()
    run.communicate()
    before = lab.program.snapshot()
    reading = lab.program("--json", "status", lab.set_name)
    assert reading.json["openSwapCount"] == 1 and f"recover {lab.set_name}" in reading.err
    assert "open swap" in lab.program("history", lab.set_name).err
    assert "STARTED" in lab.program("recover", "--dry-run").out
    assert lab.program.snapshot() == before
    recovered = lab.program("recover", lab.set_name)
    assert "recovered: " in recovered.err and "committed" in recovered.err
    assert lab.versions() == lab.all_on("2.0.0")
    shown = lab.status()
    assert shown["runningStatus"]["code"] == "Faulted" and shown["openSwapCount"] == 0
    assert shown["error"]["code"] == "InternalExecutionError"


def test_the_next_command_recovers_first_and_goes_on(lab):
    run = lab.program.start("upgrade", lab.set_name)
    run.wait_line("swapping")
    run.kill()
    run.communicate()
    done = lab.program("upgrade", lab.set_name)
    assert "recovered: " in done.err
    assert lab.versions() == lab.all_on("3.0.0")
    assert "nothing is open" in lab.program("recover", status=DONE).out


def test_killed_it_still_leaves_what_fails_when_it_was_told_to(lab):
    """F2: --no-auto-rollback outlives its process."""
    lab.program("image-publish", "cheap", "9.0.0", crashing_image(lab.program, "9.0.0"))
    before = lab.versions()
    run = lab.program.start("upgrade", lab.set_name, "--version", "9.0.0", "--no-auto-rollback")
    run.wait_line("probing")
    run.kill()
    run.communicate()
    assert "left on generation" in lab.program("recover", lab.set_name).err
    moved = [name for name, version in lab.versions().items() if version == "9.0.0"]
    assert len(moved) == 1
    lab.program("rollback", lab.set_name, moved[0])
    assert lab.versions() == before
