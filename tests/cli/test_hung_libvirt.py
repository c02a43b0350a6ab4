# SPDX-License-Identifier: LGPL-2.1-or-later
"""B17: libvirtd hangs (SIGSTOP): before a command, in the middle of a run, and for good while somebody types Ctrl-C (SAFETY 4.13).

A private libvirtd, so that nobody else's guests hang with it.  A connection that gives no answer is given up after 20 s.
"""
import contextlib
import signal
import subprocess
import threading
import time

import pytest

from program import DONE, FAILED, PERSON, POLICY, error_line, without_place

GIVEN_UP_S = 20
MANY_STEPS_S = 240  # of a way back whose every step is given up


@pytest.fixture(scope="module", name="lab")
def fixture_lab(private, make_lab):
    lab = make_lab(2, "hung", guest={"uri": private.uri}, batch=50)
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    return lab


@pytest.fixture(name="another")
def fixture_another(private, make_lab):
    return make_lab(1, "other", guest={"uri": private.uri})


@contextlib.contextmanager
def hanging(private):
    private.hang()
    try:
        yield
    finally:
        private.go_on()


def new_version(lab):
    """None of its guests runs it."""
    return min({"1.0.0", "2.0.0", "3.0.0"} - set(lab.versions().values()))


def boots(lab):
    return [guest.booted_versions() for guest in lab.fleet]


def all_at_once(program, commands):
    """Of each: exit status, output, errors, seconds."""
    begun = time.monotonic()
    running = [program.start(*command) for command in commands]
    ends = []
    for process in running:
        out, err = process.communicate(timeout=120)
        assert "Sanitizer" not in err, err
        ends.append((process.returncode, out, err, time.monotonic() - begun))
    return ends


def says_so(err, uri):
    line = error_line(err)
    assert f"libvirt did not answer at {uri} within {GIVEN_UP_S} s" in line and "systemctl restart libvirtd" in line, err
    return line


def test_every_command_ends(lab, another, private):
    """In the time that one connection takes, and says which; nothing is changed, and what can be told without libvirt is told."""
    name, program = lab.set_name, lab.program
    program("set-define", "-", stdin=program.model("other", [another.names[0]]))  # another set is no reason to wait twice
    changing = [("upgrade", name), ("recover", name), ("rollback", name, lab.names[0]), ("reimage", name, lab.names[0])]
    reading = [("plan", name), ("recover", name, "--dry-run"), ("gc", "--dry-run")]
    both = [("gc",), ("recover",)]
    before, booted = program.snapshot(), boots(lab)
    with hanging(private):
        ends = all_at_once(program, [("status", name), *changing, *reading, *both])
    assert all(seconds < GIVEN_UP_S + 15 for _, _, _, seconds in ends), ends
    status, out, err, _ = ends[0]
    assert status == DONE and "2.0.0 on 2" in out and "power and health are unknown: libvirt did not answer" in err
    for status, _, err, _ in ends[1:]:
        assert status == FAILED and says_so(err, private.uri)
    for _, _, err, _ in ends[1:1 + len(changing)]:
        assert f"set '{name}' is as it was" in err
    assert program.snapshot() == before and boots(lab) == booted
    program("set-undefine", "other")
    version = new_version(lab)
    program("upgrade", name, "--version", version)
    assert lab.versions() == lab.all_on(version)


def swapping(lab, version):
    """A run whose first guest is being stopped."""
    run = lab.program.start("upgrade", lab.set_name, "--version", version)
    run.wait_line("swapping")
    time.sleep(0.3)
    return run


def test_a_hang_is_waited_out(lab, private):
    version = new_version(lab)
    run = swapping(lab, version)
    with hanging(private):
        time.sleep(GIVEN_UP_S + 5)  # a call and its connection are given up
        assert run.poll() is None
    out, err = run.communicate(timeout=120)
    assert "Sanitizer" not in err and "UNKNOWN" not in err
    if run.returncode != DONE:  # where the call that was given up is not asked again, the guest is back on its old disk
        assert run.returncode == POLICY and "1 restored, 1 not touched" in err, (out, err)
        lab.program("upgrade", lab.set_name, "--version", version)
    assert lab.versions() == lab.all_on(version)


def test_ctrl_c_on_a_libvirt_that_never_comes_back(lab, private):
    """The run ends within its bounds; the guest whose state nobody knows keeps its slot, and a recovery settles it."""
    version = new_version(lab)
    run = swapping(lab, version)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(run.stderr), daemon=True)
    reader.start()
    with hanging(private):
        begun = time.monotonic()
        for _ in range(2):
            time.sleep(1)
            run.send_signal(signal.SIGINT)
        try:
            run.wait(MANY_STEPS_S)
        except subprocess.TimeoutExpired:
            run.kill()
            raise
        print(f"ended after {time.monotonic() - begun:.0f} s")
        reader.join(5)
        err = without_place("".join(lines))
        assert run.returncode in (PERSON, FAILED) and "Sanitizer" not in err, err
        assert "putting the guests in flight back" in err and f"virt-reimage recover {lab.set_name}" in err
        seen = lab.status()
        assert seen["openSwapCount"] == 1
    recovered = lab.program("recover", lab.set_name).err
    assert "recovered: " in recovered and lab.status()["openSwapCount"] == 0
    assert all(guest.is_running() for guest in lab.fleet)
    lab.program("upgrade", lab.set_name, "--version", version)
    assert lab.versions() == lab.all_on(version)
