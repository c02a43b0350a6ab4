# SPDX-License-Identifier: LGPL-2.1-or-later
"""B20: the first OS disk of a guest is a volume of a pool, or a block device. It is looked at as a file is: who holds it, how large it is, is it there."""
import fcntl
import os
import re
import struct
import subprocess
import threading
import time

import libvirt
import pytest

from conftest import PREFIX
from lib import cheap_guest
from program import REFUSED, Program

F_OFD_SETLK = 37
UNUSED_BYTE = 140  # in the range of QEMU's lock bytes, and none of a permission: QEMU itself does not mind
SIZE = 8 * 1024 * 1024


class Volume:
    def __init__(self, fleet):
        self.fleet = fleet
        self.pool = fleet.connection.storagePoolDefineXML(
            f"<pool type='dir'><name>{PREFIX}-zero</name><target><path>{fleet.dir}</path></target></pool>")
        self.pool.create()
        self.path = fleet[0].os_disk

    def source(self):
        return (f"<disk type='volume' device='disk'><driver name='qemu' type='raw'/>"
                f"<source pool='{PREFIX}-zero' volume='{os.path.basename(self.path)}'/>")

    def hold(self):
        self.fd = os.open(self.path, os.O_RDONLY)
        fcntl.fcntl(self.fd, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, UNUSED_BYTE, 1, 0))

    def let_go(self):
        os.close(self.fd)

    def clean_up(self):
        cheap_guest.remove_domain(self.fleet[0].domain)  # first: nobody may delete anything while a guest names a pool that is not there
        self.pool.destroy()
        self.pool.undefine()


class Block:
    """A loop device: QEMU gets a node of its own in its /dev, so locks tell nothing of it."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.path = subprocess.run(["losetup", "-f", "--show", fleet[0].os_disk], check=True, capture_output=True,
                                   text=True).stdout.strip()

    def source(self):
        return f"<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{self.path}'/>"

    def hold(self):
        """Another QEMU on it, with a node of its own as libvirt gives one."""
        number = os.stat(self.path).st_rdev
        script = ("mount -t tmpfs dev /dev && mknod /dev/null c 1 3 && mknod $0 b $1 $2 && exec qemu-system-x86_64 -S -display none "
                  "-nodefaults -accel tcg -m 16 -drive file=$0,format=raw,if=none,file.locking=on")
        self.qemu = subprocess.Popen(["unshare", "-m", "sh", "-c", script, self.path, str(os.major(number)),
                                      str(os.minor(number))])
        cheap_guest.wait_for(self.is_held, 20, "the other QEMU is there")

    def is_held(self):
        with open(f"/proc/{self.qemu.pid}/cmdline", "rb") as words:
            return words.read().startswith(b"qemu-system")

    def let_go(self):
        self.qemu.kill()
        self.qemu.wait()

    def clean_up(self):
        subprocess.run(["losetup", "-d", self.path], check=True)


@pytest.fixture(scope="module", params=[Volume, Block], name="zero")
def fixture_zero(request):
    """One guest that runs on it, with its set, adopted."""
    with cheap_guest.Fleet(1, f"{PREFIX}-zero", version="1.0.0", os_format="raw", size=SIZE) as fleet:
        kind = request.param(fleet)
        try:
            guest = fleet[0]
            xml = re.sub(r"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file=\S*os\.raw\S/>",
                         kind.source(), guest.xml())
            assert kind.source() in xml
            guest.domain = fleet.connection.defineXML(xml)
            fleet.start_all()
            kind.guest, kind.program = guest, Program(fleet.path("store"), fleet.dir)
            for version in ("1.0.0", "2.0.0"):
                kind.program.publish(version)
            kind.program("set-define", "-", stdin=kind.program.model("zero", [guest.name]))
            kind.program("adopt", "zero", guest.name, "--version", "1.0.0")
            yield kind
            guest.destroy()
        finally:
            kind.clean_up()


def names_generation_0(guest):
    return "g1.qcow2" not in guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


def generations(zero):
    return zero.program.json("generations", "zero", zero.guest.name)["generations"]


def test_the_switch_waits_for_who_holds_it(zero):
    seen = []

    def holder():
        cheap_guest.wait_for(lambda: not zero.guest.is_running(), 60, "the guest is off")
        time.sleep(3)
        seen.append(names_generation_0(zero.guest) and not zero.guest.is_running())
        zero.let_go()

    zero.hold()
    thread = threading.Thread(target=holder)
    thread.start()
    zero.program("upgrade", "zero", "--version", "2.0.0")
    thread.join()
    assert seen == [True]
    assert [(one["generation"], one["state"], one["ours"]) for one in generations(zero)] == [
        (0, "kept", False), (1, "current", True)]
    zero.guest.wait_boot("2.0.0", boots=2)
    new = generations(zero)[1]["path"]
    shown = subprocess.run(["qemu-img", "info", "-U", new], check=True, capture_output=True, text=True).stdout
    assert f"({SIZE} bytes)" in shown  # B13


def test_back_to_it_and_forward_again(zero):
    zero.program("rollback", "zero", zero.guest.name)
    assert names_generation_0(zero.guest)
    zero.guest.wait_boot("1.0.0", boots=3)
    zero.program("rollback", "zero", zero.guest.name, "--to-generation", "1")
    zero.guest.wait_boot("2.0.0", boots=4)


def test_one_that_is_gone_is_not_gone_back_to(zero):
    """Found before the guest is stopped."""
    if isinstance(zero, Volume):
        os.rename(zero.path, zero.path + ".aside")
        zero.pool.refresh()
    else:
        with open(zero.guest.os_disk, "rb") as disk:
            zero.content = disk.read()
        resize(zero, b"")
    before = zero.guest.domain.ID()
    try:
        result = zero.program.run("rollback", "zero", zero.guest.name)
    finally:
        put_back(zero)
    assert result.status != 0 and "generation 0" in result.err, (result.status, result.err)
    assert zero.guest.domain.ID() == before
    zero.program("rollback", "zero", zero.guest.name)
    zero.guest.wait_boot("1.0.0", boots=5)


def resize(zero, content):
    """A device that holds nothing; its number is not given to somebody else."""
    with open(zero.guest.os_disk, "r+b") as disk:
        disk.truncate(0)
        disk.write(content)
    subprocess.run(["losetup", "-c", zero.path], check=True)


def put_back(zero):
    if isinstance(zero, Volume):
        os.rename(zero.path + ".aside", zero.path)
        zero.pool.refresh()
    else:
        resize(zero, zero.content)


def test_somebody_else_has_it(zero):
    """Attached to a rescue guest that runs: QEMU's locks on a device do not show, the XML does. Found before the guest is stopped, and by the dry run."""
    zero.program("upgrade", "zero", "--version", "2.0.0")
    zero.guest.wait_boot("2.0.0", boots=6)
    fleet, before = zero.fleet, zero.guest.domain.ID()
    own = cheap_guest.write_os_disk(fleet.path("rescue.raw"), "1", "raw")
    rescue = fleet.connection.createXML(cheap_guest.domain_xml(f"{PREFIX}-zero-rescue", own, os_format="raw"))
    try:
        rescue.attachDeviceFlags(zero.source() + "<target dev='vdz' bus='virtio'/></disk>", libvirt.VIR_DOMAIN_AFFECT_LIVE)
        for more in (["--dry-run"], []):
            line = zero.program.run("rollback", "zero", zero.guest.name, *more)
            assert line.status != 0 and "[rollback-disk-in-use]" in line.out + line.err, (line.status, line.out, line.err)
            assert "zero-rescue" in line.out + line.err
        assert zero.guest.domain.ID() == before
    finally:
        cheap_guest.remove_domain(rescue)
    zero.program("rollback", "zero", zero.guest.name)
    zero.guest.wait_boot("1.0.0", boots=7)
