# SPDX-License-Identifier: LGPL-2.1-or-later
"""B8: reimage --temp-disk makes the disks anew that the model flags, and nothing else ever does."""
import hashlib
import os
import subprocess
import time

import pytest

from program import DONE, REFUSED, USAGE

MIB = 1024 * 1024
UUID = "5b2a8a08-26a5-4fd8-9a6e-0d7a8f0c1b11"
SCRIBBLE = b"the guest was here"
FLAG = "tempDisks: [vdc]\n"


def fill(guest):
    """An ext4 file system with a name, and something in it."""
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "scratch", "-U", UUID, guest.temp], check=True)
    with open(guest.temp, "r+b") as disk:
        disk.seek(900_000)
        disk.write(SCRIBBLE)


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    lab = make_lab(2, "temp", guest={"temp": True}, more=FLAG, batch=100)
    for guest in lab.fleet:
        guest.destroy()
        fill(guest)
        guest.start()
        guest.wait_boot("1.0.0", boots=2)
    return lab


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def is_anew(guest):
    """The same file system by type, label and UUID; True: nothing is in it."""
    told = subprocess.run(["blkid", "-p", "-o", "export", guest.temp], capture_output=True, text=True, check=True).stdout
    assert {"TYPE=ext4", "LABEL=scratch", f"UUID={UUID}"} <= set(told.splitlines()), told
    assert os.path.getsize(guest.temp) == MIB
    with open(guest.temp, "rb") as disk:
        return SCRIBBLE not in disk.read()


def data_of(lab):
    return [digest(path) for guest in lab.fleet for path, _, _ in guest.data]


def no_stray(lab):
    return not [name for name in os.listdir(lab.fleet.dir) if name.startswith(".")]


def test_only_what_the_model_flags(lab):
    lab.define()
    refused = lab.program.fails(REFUSED, "reimage", lab.set_name, "--all", "--temp-disk")
    assert "flags no disk as temporary" in refused
    lab.define(more=FLAG)
    lab.program.fails(USAGE, "upgrade", lab.set_name, "--temp-disk")


def test_a_dry_run_says_so_and_changes_nothing(lab):
    before, temp = lab.program.snapshot(), [digest(guest.temp) for guest in lab.fleet]
    told = lab.program("reimage", lab.set_name, lab.names[0], "--temp-disk", "--dry-run")
    assert "made anew" in told.out and "no rollback brings back what is on it" in told.err
    drives = lab.program.json("reimage", lab.set_name, lab.names[0], "--temp-disk", "--dry-run")["drives"]
    effects = {one["target"]: (one["reimage"], one["upgrade"]) for one in drives}
    assert effects == {"vda": ("replaced", "replaced"), "vdb": ("kept", "kept"), "vdc": ("madeAnew", "kept")}
    assert "made anew" not in lab.program("reimage", lab.set_name, lab.names[0], "--dry-run").out
    assert lab.program.snapshot() == before and temp == [digest(guest.temp) for guest in lab.fleet]


def test_never_without_the_flag(lab):
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    lab.program("reimage", lab.set_name, "--all")
    lab.program("rollback", lab.set_name, lab.names[0])
    assert not any(is_anew(guest) for guest in lab.fleet)


def test_made_anew_in_the_reimage_of_that_instance(lab):
    data, guest, other = data_of(lab), lab.fleet[0], lab.fleet[1]
    mode = os.stat(guest.temp).st_mode
    boots = len(guest.booted_versions())
    told = lab.program("reimage", lab.set_name, lab.names[0], "--temp-disk")
    assert "no rollback brings back what is on it" in told.err
    guest.wait_boot("2.0.0", boots=boots + 1)
    assert is_anew(guest) and not is_anew(other)
    assert data_of(lab) == data and os.stat(guest.temp).st_mode == mode and no_stray(lab)
    proof = lab.program.json("instance-view", lab.set_name, lab.names[0])["dataDisks"]
    assert proof["untouched"] and {one["target"]: one["madeAnew"] for one in proof["disks"]} == {"vdb": False, "vdc": True}
    assert "made anew: vdc" in lab.program("instance-view", lab.set_name, lab.names[0]).out


def test_a_rollback_leaves_it(lab):
    with open(lab.fleet[0].temp, "r+b") as disk:
        disk.seek(900_000)
        disk.write(SCRIBBLE)
    lab.program("rollback", lab.set_name, lab.names[0])
    assert not is_anew(lab.fleet[0])


def test_detached(lab):
    """The worker is told, too."""
    lab.program("reimage", lab.set_name, lab.names[1], "--temp-disk", "--detach")
    for _ in range(200):
        if lab.status()["runningStatus"]["code"] == "Completed":
            break
        time.sleep(0.1)
    assert is_anew(lab.fleet[1]) and no_stray(lab)


def test_what_cannot_be_made_anew_is_refused_before_the_guest_is_touched(lab):
    guest = lab.fleet[1]
    guest.destroy()
    with open(guest.temp, "r+b") as disk:
        disk.write(b"\0" * MIB)
        disk.seek(0)
        disk.write(b"LUKS\xba\xbe\0\1")
    guest.start()
    number = guest.domain.ID()
    failed = lab.program.run("reimage", lab.set_name, lab.names[1], "--temp-disk")
    assert failed.status != DONE
    assert "crypto_LUKS, which is not made anew here" in failed.out + failed.err
    assert guest.domain.ID() == number and guest.is_running()
    fill(guest)


def test_killed_in_the_middle(lab):
    """B17: the old one or the new one, and whole."""
    guest, seen = lab.fleet[0], set()
    for turn in range(12):
        with open(guest.temp, "r+b") as disk:
            disk.seek(900_000)
            disk.write(SCRIBBLE)
        process = lab.program.start("reimage", lab.set_name, lab.names[0], "--temp-disk")
        time.sleep(0.35 + 0.09 * turn)
        process.kill()
        process.communicate()
        seen.add(is_anew(guest))
        lab.program.run("recover", lab.set_name)
        assert no_stray(lab) and guest.is_running()
        if seen == {True, False} and turn > 5:
            break
    assert seen == {True, False}
