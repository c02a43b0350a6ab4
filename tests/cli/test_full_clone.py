# SPDX-License-Identifier: LGPL-2.1-or-later
"""B6, B13, B17, G2: a set whose guests get full clones. The tests follow each other on the same guests."""
import glob
import json
import os
import re
import signal
import subprocess
import time

import libvirt
import pytest

from lib import cheap_guest
from conftest import PREFIX
from program import DONE, FAILED, REFUSED, Program, content_of

MIB = 1024 * 1024
BIG = 192 * MIB  # so much is copied that a signal comes in between


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(4, "full", guest={"os_format": "raw"}, kind="full")


def disk_of(lab, name):
    return lab.fleet[lab.names.index(name)].configured_os_disk()


def image_info(path):
    shown = subprocess.run(["qemu-img", "info", "-U", "--output=json", path], check=True, capture_output=True)
    return json.loads(shown.stdout)


def boots_of(lab):
    return {guest.name: (guest.domain.ID(), guest.booted_versions()) for guest in lab.fleet}


def temporary(lab):
    return glob.glob(os.path.join(lab.program.root, "disks", "*", ".tmp-*", "*"))


def wait_copy(lab, process):
    """Until a copy is under way."""
    def begun():
        assert process.poll() is None, process.communicate()
        return sum(os.stat(path).st_blocks * 512 for path in temporary(lab) if os.path.exists(path)) > MIB
    end = time.monotonic() + 60
    while not begun():
        assert time.monotonic() < end, "no copy begins"
        time.sleep(0.002)


def test_plan_says_so(lab):
    plan = lab.program.json("plan", lab.set_name, "--version", "2.0.0")
    assert plan["osDiskKind"] == "full"
    assert 65536 <= plan["space"]["initialBytesPerInstance"] <= MIB
    assert "a new OS disk is a full clone, takes" in lab.program("plan", lab.set_name, "--version", "2.0.0").out
    assert "vda, a full clone" in lab.program("set-info", lab.set_name).out
    assert lab.program.json("set-info", lab.set_name)["osDisk"] == {"kind": "full", "target": "vda"}


def test_upgrade_makes_disks_that_stand_alone(lab):
    data = [content_of(path) for guest in lab.fleet for path, _, _ in guest.data]
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    assert lab.versions() == lab.all_on("2.0.0")
    for guest in lab.fleet:
        guest.wait_boot("2.0.0", boots=2)
        path = guest.configured_os_disk()
        info = image_info(path)
        assert path.endswith("/g1.qcow2") and "backing-filename" not in info and info["virtual-size"] == MIB
        for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
            assert "/images/" not in guest.domain.XMLDesc(flags)
    assert temporary(lab) == []
    assert [content_of(path) for guest in lab.fleet for path, _, _ in guest.data] == data


def test_a_version_that_clones_were_made_of_is_in_use(lab):
    assert "generation 1, current" in lab.program("image-delete", "cheap", "2.0.0", status=REFUSED).error()


def test_rollback_and_forward_again(lab):
    lab.program("rollback", lab.set_name, "--all")
    assert lab.versions() == lab.all_on("1.0.0")
    name = lab.names[0]
    lab.program("rollback", lab.set_name, name, "--to-generation", "1")
    assert disk_of(lab, name).endswith("/g1.qcow2")
    lab.fleet[0].wait_boot("2.0.0", boots=4)
    lab.program("rollback", lab.set_name, name)
    assert lab.versions() == lab.all_on("1.0.0")


def test_a_seat_that_stays_empty_holds_nobody_up(lab):
    """One guest cannot be prepared: the others of its batch are."""
    mine = os.path.join(lab.program.root, "disks", lab.fleet[1].uuid)
    os.makedirs(mine, exist_ok=True)
    os.rename(mine, f"{mine}.aside")
    os.symlink(f"{mine}.aside", mine)  # no link in the store is followed
    try:
        begun = time.monotonic()
        failed = lab.program("upgrade", lab.set_name, "--version", "2.0.0", status=FAILED)
        assert time.monotonic() - begun < 50
        assert "symbolic link" in failed.error()
    finally:
        os.unlink(mine)
        os.rename(f"{mine}.aside", mine)
    assert lab.versions() == {**lab.all_on("2.0.0"), lab.names[1]: "1.0.0"}
    lab.program("reimage", lab.set_name, lab.names[1], "--version", "2.0.0")
    assert lab.versions() == lab.all_on("2.0.0")


@pytest.fixture(scope="module", name="big")
def fixture_big(lab):
    """A version whose copy takes its time."""
    raw = cheap_guest.write_os_disk(lab.program.path("4.0.0.raw"), "4.0.0", size=BIG)
    with open(raw, "r+b") as disk:
        for at in range(MIB, BIG, MIB):
            disk.seek(at)
            disk.write(os.urandom(MIB))
    lab.program("image-publish", "cheap", "4.0.0", raw)
    return "4.0.0"


def copying(lab):
    """What the process of the run says of its copies (docs/control.md)."""
    status, said = lab.program.control(lab.set_name, "GET", "latest")
    assert status == 200 and said["copies"] and {one["uuid"] for one in said["copies"]} <= {guest.uuid for guest in lab.fleet}
    assert all(0 <= one["done"] <= one["total"] > 0 for one in said["copies"]), said["copies"]


def test_ctrl_c_ends_a_copy(lab, big):
    before = boots_of(lab)
    run = lab.program.start("upgrade", lab.set_name, "--version", big)
    wait_copy(lab, run)
    copying(lab)
    run.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, err = run.communicate(timeout=60)
    assert time.monotonic() - asked < 10
    assert run.returncode == FAILED and "cancelled: 0 done, 0 put back, 4 not begun" in err
    assert lab.versions() == lab.all_on("2.0.0") and boots_of(lab) == before
    assert temporary(lab) == [] and lab.status()["runningStatus"]["code"] == "Cancelled"


def test_killed_in_a_copy(lab, big):
    before = boots_of(lab)
    run = lab.program.start("upgrade", lab.set_name, "--version", big)
    wait_copy(lab, run)
    run.kill()
    run.communicate()
    assert temporary(lab) != [] and lab.status()["openSwapCount"] == 4
    lab.program("recover", lab.set_name)
    assert lab.versions() == lab.all_on("2.0.0") and boots_of(lab) == before
    assert temporary(lab) == [] and lab.status()["openSwapCount"] == 0
    assert "nothing is open" in lab.program("recover", status=DONE).out


def test_the_disk_never_shrinks(lab, big):
    """B13: to the larger version, and then to a small one, by clone and by overlay."""
    name = lab.names[0]
    lab.program("reimage", lab.set_name, name, "--version", big)
    lab.program("reimage", lab.set_name, name, "--version", "3.0.0")
    path = disk_of(lab, name)
    assert image_info(path)["virtual-size"] == BIG and os.stat(path).st_blocks * 512 < 4 * MIB
    lab.define(kind="overlay")
    lab.program("reimage", lab.set_name, name, "--version", "3.0.0")
    info = image_info(disk_of(lab, name))
    assert info["virtual-size"] == BIG and "backing-filename" in info
    lab.program("rollback", lab.set_name, name)
    assert disk_of(lab, name) == path
    lab.define(kind="full")


def as_volume(guest, pool):
    """The guest's XML with its OS disk as a volume of the pool."""
    old = f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file=\"{guest.os_disk}\"/>"
    new = (f"<disk type='volume' device='disk'><driver name='qemu' type='raw'/>"
           f"<source pool='{pool}' volume='{os.path.basename(guest.os_disk)}'/>")
    xml = guest.xml()
    assert old in xml
    return xml.replace(old, new)


@pytest.mark.parametrize("kind", ["overlay", "full"])
def test_a_volume_does_not_shrink_either(kind):
    """B13, B20: what libvirt says where the volume is counts."""
    prefix = f"{PREFIX}-volume"
    with cheap_guest.Fleet(1, prefix, version="1.0.0", os_format="raw", size=8 * MIB) as fleet:
        guest, program = fleet[0], Program(fleet.path("store"), fleet.dir)
        pool = fleet.connection.storagePoolCreateXML(
            f"<pool type='dir'><name>{prefix}</name><target><path>{fleet.dir}</path></target></pool>")
        try:
            fleet.connection.defineXML(as_volume(guest, prefix))
            guest.start()
            guest.wait_boot("1.0.0")
            program.publish("2.0.0")
            program("set-define", "-", stdin=program.model("volume", [guest.name], kind=kind))
            program("upgrade", "volume")
            guest.wait_boot("2.0.0", boots=2)
            assert image_info(guest.configured_os_disk())["virtual-size"] == 8 * MIB
            program("rollback", "volume", guest.name)
            guest.wait_boot("1.0.0", boots=3)
        finally:
            cheap_guest.remove_domain(guest.domain)  # before its pool
            pool.destroy()


def test_space_for_all_is_asked_before_the_first(lab, big):
    """D25: the batch would fit, the run would not. Plan and upgrade ask the same; no guest is touched."""
    root = lab.program.path("small")
    os.mkdir(root, 0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0711", "tmpfs", root], check=True)
    try:
        small = Program(root, lab.program.work)
        raw = cheap_guest.write_os_disk(lab.program.path("noise.raw"), "1.0.0", size=24 * MIB)
        with open(raw, "r+b") as disk:
            disk.seek(MIB)
            disk.write(os.urandom(23 * MIB))
        small("image-publish", "cheap", "1.0.0", raw)
        model = small.model("small", lab.names, batch=25, unhealthy=25, kind="full")
        small("set-define", "-", stdin=model)
        for command in (("plan", "small"), ("upgrade", "small", "--version", "1.0.0")):
            refused = small(*command, status=REFUSED).error()
            assert re.search(r"needs [0-9.]+ MiB for 4 new OS disks, full clones: [0-9.]+ MiB are missing", refused)
        small("set-define", "-", stdin=model.replace("kind: full", "kind: overlay"))
        space = small.json("plan", "small")["space"]
        assert space["neededBytes"] == 4 * space["initialBytesPerInstance"] + 16 * MIB <= space["freeBytes"]
        with open(os.path.join(root, "filler"), "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, space["freeBytes"] - space["neededBytes"] + 2 * MIB)
        before = [guest.booted_versions() for guest in lab.fleet]
        for command in (("plan", "small"), ("upgrade", "small", "--version", "1.0.0")):
            assert "needs 20.0 MiB for 4 new OS disks: 2.0 MiB are missing" in small(*command, status=REFUSED).error()
        assert [guest.booted_versions() for guest in lab.fleet] == before
        assert small.json("history", "small")["runs"] == []
    finally:
        subprocess.run(["umount", "-l", root], check=True)
