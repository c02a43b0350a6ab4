# SPDX-License-Identifier: LGPL-2.1-or-later
"""B21: an instance leaves with an OS disk that stands alone; what stays, and where. The tests follow each other on the same guests."""
import json
import os
import subprocess
import time
from xml.etree import ElementTree

import libvirt
import pytest

from lib import cheap_guest
from program import FAILED, IMAGE, OWNED, REFUSED

MIB = 1024 * 1024


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    lab = make_lab(4, "release", batch=100)
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    return lab


def place(lab, index, name=""):
    return os.path.join(lab.program.root, "disks", lab.fleet[index].uuid, name)


def backing(path):
    told = subprocess.run(["qemu-img", "info", "-U", "--output", "json", path], capture_output=True, check=True)
    return json.loads(told.stdout).get("backing-filename")


def os_disk(guest, flags):
    root = ElementTree.fromstring(guest.domain.XMLDesc(flags))
    return [disk for disk in root.iter("disk") if disk.find("target").get("dev") == "vda"][0]


def assert_on_its_own(lab, index, path):
    """Configured and running, the domain names this file and nothing of ours beside it."""
    guest = lab.fleet[index]
    assert backing(path) is None
    for flags in (libvirt.VIR_DOMAIN_XML_INACTIVE, 0):
        disk = os_disk(guest, flags)
        assert disk.find("source").get("file") == path
        assert disk.find("backingStore/source") is None
        xml = guest.domain.XMLDesc(flags)
        assert "urn:virt-reimage" not in xml and "/images/" not in xml


def in_set(lab):
    return [one["domain"] for one in lab.status()["instances"]]


def test_a_dry_run_changes_nothing(lab):
    before = lab.program.snapshot()
    told = lab.program("release", lab.set_name, lab.names[0], "--dry-run").out
    assert "would be released" in told and "while it runs" in told and f"/images/{IMAGE}/2.0.0/" in told
    shown = lab.program.json("release", lab.set_name, lab.names[0], "--dry-run")
    assert shown["dryRun"] and shown["way"] == "blockPull" and shown["path"] == place(lab, 0, "g1.qcow2")
    assert lab.program.snapshot() == before


def test_what_forbids_a_swap_forbids_it(lab):
    guest = lab.fleet[0]
    lab.program.fails(FAILED, "release", lab.set_name, "nobody")
    guest.domain.suspend()
    assert "[not-running-or-off]" in lab.program.fails(REFUSED, "release", lab.set_name, lab.names[0])
    guest.domain.resume()
    assert in_set(lab) == lab.names


def test_a_guest_that_runs_goes_on(lab):
    """Without downtime: the same QEMU, which never stops, on the same file."""
    guest, path = lab.fleet[0], place(lab, 0, "g1.qcow2")
    number, boots = guest.domain.ID(), len(guest.booted_versions())
    assert backing(path) is not None
    told = lab.program("release", lab.set_name, lab.names[0])
    assert f"{lab.names[0]} is released: it goes on with {path}" in told.out
    assert_on_its_own(lab, 0, path)
    assert guest.domain.ID() == number and len(guest.booted_versions()) == boots
    assert in_set(lab) == lab.names[1:]
    assert lab.names[0] not in lab.program("set-dump", lab.set_name).out
    assert lab.names[0] not in lab.program("plan", lab.set_name).out
    lab.program("release", lab.set_name, lab.names[0], status=FAILED)
    guest.destroy()
    guest.start()
    guest.wait_boot("2.0.0", boots=boots + 1)


def test_the_model_is_what_a_person_wrote(lab):
    """set-define of what set-dump says changes nothing."""
    text = lab.program("set-dump", lab.set_name).out
    assert [line.strip() for line in text.splitlines() if "domain:" in line] == [f"- {{domain: {name}}}" for name in lab.names[1:]]
    assert "nothing of it changes" in lab.program("set-define", "-", stdin=text).out


def test_a_guest_that_is_off_gets_a_new_file_and_stays_off(lab):
    guest, old, new = lab.fleet[1], place(lab, 1, "g1.qcow2"), place(lab, 1, "g2.qcow2")
    boots = len(guest.booted_versions())
    guest.destroy()
    assert lab.program.json("release", lab.set_name, lab.names[1], "--dry-run")["way"] == "newFile"
    answer = lab.program.json("release", lab.set_name, lab.names[1])
    assert answer["path"] == new and answer["left"] == [old] and not answer["setForgotten"]
    assert not guest.is_running()
    assert_on_its_own(lab, 1, new)
    same = subprocess.run(["qemu-img", "compare", "-U", old, new], capture_output=True, text=True, check=False)
    assert same.returncode == 0, same
    guest.start()
    guest.wait_boot("2.0.0", boots=boots + 1)
    assert in_set(lab) == lab.names[2:]


def test_its_disk_is_never_deleted(lab):
    """Neither by gc nor by --left, not even when no domain names it; nor is a version in use by it."""
    own = [place(lab, 0, "g1.qcow2"), place(lab, 1, "g2.qcow2")]
    assert lab.program.json("gc")["deleted"] == []
    deleted = lab.program.json("gc", "--left")["deleted"]
    assert [one["path"] for one in deleted] == [place(lab, 1, "g1.qcow2")]
    for index in (0, 1):
        lab.fleet[index].destroy()
        lab.fleet[index].define()  # with the disk that it had before the product
    answer = lab.program.json("gc", "--left")
    assert answer["deleted"] == [] and answer["unknown"] == [] and all(os.path.exists(path) for path in own)
    lab.program("upgrade", lab.set_name, "--version", "3.0.0")
    for index in (2, 3):
        lab.program("rollback", lab.set_name, lab.names[index], "--to-generation", "0")
    users = lab.program.json("image-info", IMAGE, "2.0.0")
    assert lab.names[0] not in str(users) and lab.names[1] not in str(users)
    for index in (0, 1):
        lab.fleet[index].define(os_path=own[index])
        lab.fleet[index].start()


def test_it_can_come_back(lab):
    """As a foreign guest: what it runs is for adopt to say, and its disk is recorded where it lies."""
    own = place(lab, 1, "g2.qcow2")
    before = os.stat(own)
    model = lab.program.model(lab.set_name, [lab.names[1]] + lab.names[2:])
    lab.program("set-define", "-", stdin=model)
    assert [one["version"] for one in lab.status()["instances"]][0] is None
    told = lab.program("adopt", lab.set_name, lab.names[1], "--version", "2.0.0").out
    assert "generation 2, " + own in told
    lab.program("upgrade", lab.set_name, "--version", "3.0.0")
    assert lab.fleet[1].configured_os_disk() == place(lab, 1, "g3.qcow2")
    lab.program("gc", lab.set_name)
    lab.program("rollback", lab.set_name, lab.names[1])
    assert lab.fleet[1].configured_os_disk() == own
    assert (os.stat(own).st_ino, os.stat(own).st_mode) == (before.st_ino, before.st_mode)
    lab.program("release", lab.set_name, lab.names[1])
    assert_on_its_own(lab, 1, own)


def big_image(lab, version, mib):
    """With so much to pull that it takes a moment."""
    path = lab.program.image(version)
    raw = path + ".raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
    with open(raw, "r+b") as disk:
        disk.seek(MIB)
        for _ in range(mib):
            disk.write(os.urandom(MIB))
    os.unlink(path)
    return raw


def job_of(guest):
    """The block job of its OS disk; {} when there is none."""
    try:
        return guest.domain.blockJobInfo("vda")
    except libvirt.libvirtError:
        return {}


def slow_pull(lab, index):
    """A release whose job has half of it before it at 2 MiB/s. On a busy machine a job may be at its end before anybody slows it down."""
    guest, name = lab.fleet[index], lab.names[index]
    for _ in range(5):
        process = lab.program.start("release", lab.set_name, name)
        cheap_guest.wait_for(lambda: job_of(guest) or process.poll() is not None, 60, "QEMU pulls")
        try:
            guest.domain.blockJobSetSpeed("vda", 2)  # MiB/s
        except libvirt.libvirtError:
            pass  # it is over
        job = job_of(guest)
        if job and job["cur"] < job["end"] / 2:
            return process
        if job:
            guest.domain.blockJobSetSpeed("vda", 0)
        process.communicate()
        lab.program("set-define", "-", stdin=lab.program.model(lab.set_name, lab.names[index:]))
        lab.program("reimage", lab.set_name, name, "--version", "5.0.0")
    raise AssertionError("it pulls faster than anybody can look")


def kill(process):
    process.kill()
    process.communicate()


def test_killed_in_the_middle(lab):
    """B17: at every moment the guest runs on a whole disk; QEMU's job goes on, and the same command again completes it."""
    lab.program("image-publish", IMAGE, "5.0.0", big_image(lab, "5.0.0", 64), "--format", "raw")
    lab.program("upgrade", lab.set_name, "--version", "5.0.0")
    guest, name = lab.fleet[2], lab.names[2]
    kill(slow_pull(lab, 2))
    number, path = guest.domain.ID(), guest.configured_os_disk()
    for command in ("recover", "status"):
        assert f"run 'virt-reimage release {lab.set_name} {name}'" in lab.program(command, lab.set_name).err
    for _ in range(2):
        again = lab.program.start("release", lab.set_name, name)
        time.sleep(2)
        assert again.poll() is None  # it waits for the job that is there
        kill(again)
        assert job_of(guest) and guest.domain.ID() == number and name in in_set(lab) and backing(path)
    guest.domain.blockJobSetSpeed("vda", 0)
    lab.program("release", lab.set_name, name)
    assert guest.domain.ID() == number
    assert_on_its_own(lab, 2, path)
    assert in_set(lab) == [lab.names[3]]


def test_killed_while_a_guest_is_off(lab):
    """B17: its old disk or its new one, and the next one completes it."""
    guest, name = lab.fleet[1], lab.names[1]
    lab.program("set-define", "-", stdin=lab.program.model(lab.set_name, [name, lab.names[3]]))
    lab.program("reimage", lab.set_name, name, "--version", "5.0.0")
    guest.destroy()
    for turn in range(8):
        process = lab.program.start("release", lab.set_name, name)
        time.sleep(0.1 + 0.1 * turn)
        kill(process)
        assert os.path.exists(guest.configured_os_disk()) and not guest.is_running()
        lab.program("recover", lab.set_name)
        if name not in in_set(lab):
            break
    else:
        lab.program("release", lab.set_name, name)
    assert_on_its_own(lab, 1, guest.configured_os_disk())
    boots = len(guest.booted_versions())
    guest.start()
    guest.wait_boot("5.0.0", boots=boots + 1)


def test_a_block_job_of_somebody_else_is_not_waited_for(lab):
    guest = lab.fleet[3]
    guest.domain.blockPull("vda", 1, 0)  # 1 MiB/s
    refused = lab.program("release", lab.set_name, lab.names[3], status=REFUSED).error()
    assert "block pull on vda [job]" in refused
    assert backing(place(lab, 3, os.path.basename(guest.configured_os_disk())))
    guest.domain.blockJobAbort("vda")


def test_the_last_one_takes_the_set_with_it(lab):
    guest = lab.fleet[3]
    guest.destroy()
    told = lab.program("release", lab.set_name, lab.names[3]).out
    assert "it was the only instance, so the set is forgotten" in told
    assert lab.set_name not in lab.program("set-list").out
    assert_on_its_own(lab, 3, guest.configured_os_disk())
    guest.start()
    guest.wait_boot("5.0.0", boots=len(guest.booted_versions()))


def test_an_owner_keeps_others_out(defined, fleet):
    """Like every command that changes a set; and one that was never swapped just leaves."""
    from test_sets import Owner
    with Owner(defined, "shop"):
        defined.fails(OWNED, "release", "shop", fleet[0].name)
    before = fleet[0].domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    told = defined("release", "shop", fleet[0].name).out
    assert f"it goes on with {fleet[0].os_disk}" in told
    assert fleet[0].domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == before
