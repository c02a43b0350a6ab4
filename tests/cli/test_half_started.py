# SPDX-License-Identifier: LGPL-2.1-or-later
"""B17, B18: libvirtd was killed as it started a guest, before there was a QEMU. Its next process takes the guest for one that is being started, holds its
lock for ever, and answers nothing that needs that.

libvirt 9.0 writes this state file for any guest that it calls tainted (a CPU of host-passthrough is enough), between the check and the fork; tests/fault/
test_soak.py hit the moment by chance. Here the file is written as it was found then, while no libvirtd runs.
"""
import re
import signal
import subprocess
import time

import pytest

from program import DONE, PERSON

QUICK_S = 20
RECOVER_S = 300  # a start and a stop that are waited for, each by libvirt's 30 s


@pytest.fixture(scope="module", name="lab")
def fixture_lab(private, make_lab):
    return make_lab(1, "half", guest={"uri": private.uri, "ignore_acpi": True})


def half_start(private, guest):
    """It is off, and no file has a label of libvirt's any more; then libvirtd dies in its start."""
    record = f"/run/libvirt/qemu/{guest.name}.xml"
    text = subprocess.run(private.command("cat", record), check=True, capture_output=True, text=True).stdout
    text = re.sub("<domstatus .*>", "<domstatus state='paused' reason='starting up' pid='0'>", text)
    text = text.replace("</qemuCaps>", "</qemuCaps><job type='none' async='start' flags='0x0' asyncStarted='1795439499052'/>")
    guest.destroy()
    private.crash()
    try:
        private.in_its_namespace(f"cat > {record}", stdin=text)
    finally:
        private.restart()


def cure(private, command):
    private.crash()
    try:
        private.in_its_namespace(command)
    finally:
        private.restart()


def interrupted(lab, version, word):
    """A run that is killed when it says that. Its guest is deaf: it runs on its old disk for a while after "swapping"."""
    run = lab.program.start("upgrade", lab.set_name, "--version", version)
    run.wait_line(word)
    time.sleep(0.3)
    run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL


def timed(program, *arguments):
    begun = time.monotonic()
    result = program.run(*arguments, timeout=RECOVER_S)
    assert "Sanitizer" not in result.err, result.err
    return result, time.monotonic() - begun


def is_said(result, state):
    assert "being started by libvirt" in result.out + result.err and f"'rm {state}'" in result.out + result.err, (result.out, result.err)


@pytest.mark.parametrize("word", ["swapping", "probing"])  # its XML names the old disk, or the new one
def test_it_is_said_and_can_be_cured(lab, private, word):
    guest, program = lab.fleet[0], lab.program
    version = "2.0.0" if word == "swapping" else "3.0.0"
    interrupted(lab, version, word)
    lab.fleet.reconnect()
    half_start(private, guest)
    lab.fleet.reconnect()
    state = f"/run/libvirt/qemu/{guest.name}.xml"

    result, seconds = timed(program, "status", lab.set_name)
    assert result.status == DONE and "paused" in result.out and seconds < QUICK_S, (seconds, result.out)
    result, seconds = timed(program, "plan", lab.set_name)
    assert seconds < QUICK_S
    is_said(result, state)
    result, seconds = timed(program, "recover", lab.set_name)
    assert result.status == PERSON and seconds < RECOVER_S and "migrated" not in result.err, (seconds, result.out, result.err)
    is_said(result, state)

    cure(private, f"rm {state}")
    program("recover", lab.set_name)
    lab.fleet.reconnect()
    assert guest.is_running()
    program("upgrade", lab.set_name, "--version", version)
    assert lab.versions() == lab.all_on(version)
