# SPDX-License-Identifier: LGPL-2.1-or-later
"""B2: every disk but the OS disk is proven untouched: files with a chain, volumes, block devices; and plan says what a hash costs."""
import os
import re
import subprocess
from xml.etree import ElementTree

import libvirt
import pytest

from conftest import PREFIX
from lib import cheap_guest
from program import REFUSED, Program

ALL = ["vdb", "vdc", "vdd", "vde"]


def disk(kind, source, target, form="raw"):
    return (f"<disk type='{kind}' device='disk'><driver name='qemu' type='{form}'/><source {source}/>"
            f"<target dev='{target}' bus='virtio'/></disk>")


def loop_device(path):
    done = subprocess.run(["losetup", "--find", "--show", path], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    return done.stdout.strip()


class Disks:
    """A guest with a data disk of each kind: a file, an overlay on a base, a volume, a block device."""

    def __init__(self, fleet):
        self.guest, self.fleet = fleet[0], fleet
        self.program = Program(fleet.path("store"), fleet.dir)
        base, overlay = fleet.path("base.raw"), fleet.path("overlay.qcow2")
        cheap_guest.write_data_disk(base)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, overlay], check=True)
        pool_dir = fleet.path("pool")
        os.mkdir(pool_dir)
        cheap_guest.write_data_disk(os.path.join(pool_dir, "volume.raw"))
        self.pool = fleet.connection.storagePoolCreateXML(
            f"<pool type='dir'><name>{fleet.prefix}</name><target><path>{pool_dir}</path></target></pool>")
        self.loop = loop_device(cheap_guest.write_data_disk(fleet.path("block.raw")))
        more = (disk("file", f"file='{overlay}'", "vdc", "qcow2") +
                disk("volume", f"pool='{fleet.prefix}' volume='volume.raw'", "vdd") + disk("block", f"dev='{self.loop}'", "vde"))
        self.guest.define(extra_devices=more)
        self.guest.start()
        self.guest.wait_boot("1.0.0")
        for version in ("1.0.0", "2.0.0", "3.0.0"):
            self.program.publish(version)
        self.define()

    def define(self, more=""):
        self.program("set-define", "-", stdin=self.program.model("disks", [self.guest.name], more=more))

    def clean_up(self):
        cheap_guest.remove_domain(self.guest.domain)  # before its pool
        self.pool.destroy()
        subprocess.run(["losetup", "--detach", self.loop], check=True)


@pytest.fixture(scope="module", name="disks")
def fixture_disks():
    with cheap_guest.Fleet(1, f"{PREFIX}-disks", version="1.0.0") as fleet:
        made = Disks(fleet)
        try:
            yield made
        finally:
            made.clean_up()


def proof_of(disks):
    return disks.program.json("instance-view", "disks", disks.guest.name)["dataDisks"]


def took_ms(text):
    return float(re.match(r"4 disks in ([0-9.]+) ms", text).group(1))


def test_each_kind_is_proven(disks):
    disks.program("upgrade", "disks", "--version", "2.0.0")
    proof = proof_of(disks)
    assert proof["untouched"] and proof["content"] == "none" and not proof["wayBack"] and proof["provenTime"]
    assert [one["target"] for one in proof["disks"] if one["depth"] == 0] == ALL
    assert [one["path"] for one in proof["disks"] if one["target"] == "vdc"] == [disks.fleet.path("overlay.qcow2"), disks.fleet.path("base.raw")]
    by_target = {one["target"]: one for one in proof["disks"] if one["depth"] == 0}
    assert by_target["vdd"]["path"] == disks.fleet.path("pool/volume.raw")
    assert by_target["vde"]["path"] == disks.loop and by_target["vde"]["sizeBytes"] == cheap_guest.MIB
    assert all(one["contentSha256"] is None for one in proof["disks"])
    assert took_ms(proof["firstReading"]) < 500 and took_ms(proof["secondReading"]) < 500
    print("read:", proof["firstReading"], "then", proof["secondReading"])
    line = disks.program("instance-view", "disks", disks.guest.name).out
    assert "Data disks" in line and "4 untouched: vdb " in line and "proven at" in line
    run = disks.program.json("status", "disks")["runId"]
    assert f"data disks of {disks.guest.name}: 4 untouched" in disks.program("history", "disks", "--run", run).out
    instance = disks.program.json("history", "disks", "--run", run)["instances"][0]
    assert instance["dataDisks"] == proof


def test_rollback_is_proven_too(disks):
    disks.program("rollback", "disks", disks.guest.name)
    assert proof_of(disks)["untouched"]


def test_content_is_hashed_when_asked_and_plan_says_what_it_costs(disks):
    assert "dataDiskProof" not in disks.program("plan", "disks").out
    disks.define("dataDiskProof: {content: whole}\n")
    planned = disks.program("plan", "disks").out
    assert "all bytes are read twice while a guest is off" in planned and f"'{disks.guest.name}'" in planned
    asked = disks.program.json("plan", "disks")["dataDiskProof"]
    overlay = os.stat(disks.fleet.path("overlay.qcow2")).st_size
    assert asked == {"content": "whole", "maximumBytesReadWhileOff": 2 * (4 * cheap_guest.MIB + overlay)}
    disks.program("upgrade", "disks", "--version", "3.0.0")
    proof = proof_of(disks)
    assert proof["untouched"] and proof["content"] == "whole"
    assert all(one["contentSha256"] for one in proof["disks"])
    assert "content whole: " in proof["firstReading"]
    disks.define()


def test_what_cannot_be_read_is_found_before_the_guest_stops(disks):
    """A disk that the guest still holds open, and that is no file any more for whoever opens it next."""
    path = disks.guest.data[0][0]
    os.rename(path, path + ".aside")
    os.mkfifo(path)
    try:
        boots = len(disks.guest.booted_versions())
        findings = disks.program("plan", "disks", "--version", "2.0.0", status=REFUSED)
        assert "[data-disk-unreadable]" in findings.out and "vdb" in findings.out
        assert "data-disk-unreadable" in disks.program("upgrade", "disks", "--version", "2.0.0", status=REFUSED).err
        assert disks.guest.is_running() and len(disks.guest.booted_versions()) == boots
    finally:
        os.unlink(path)
        os.rename(path + ".aside", path)


def test_the_domain_has_no_other_disks_than_before(disks):
    root = ElementTree.fromstring(disks.guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    assert [one.find("target").get("dev") for one in root.iter("disk")] == ["vda", *ALL]


def test_a_medium_that_is_gone():
    """A CD-ROM that may be missing at a start (startupPolicy) does not hold a guest up; libvirt starts it with the drive empty."""
    with cheap_guest.Fleet(1, f"{PREFIX}-medium", version="1.0.0") as fleet:
        guest, iso = fleet[0], cheap_guest.write_data_disk(fleet.path("medium.iso"))
        guest.define(extra_devices="<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
                                   f"<source file='{iso}' startupPolicy='optional'/><target dev='hda' bus='ide'/></disk>")
        guest.start()
        guest.wait_boot("1.0.0")
        os.unlink(iso)
        program = Program(fleet.path("store"), fleet.dir)
        program.publish("2.0.0")
        program("set-define", "-", stdin=program.model("medium", [guest.name]))
        program("upgrade", "medium", "--version", "2.0.0")
        guest.wait_boot("2.0.0", boots=2)
        assert iso in guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        program("rollback", "medium", guest.name)
        guest.wait_boot("1.0.0", boots=3)
