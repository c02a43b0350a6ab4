# SPDX-License-Identifier: LGPL-2.1-or-later
"""B20, invariants 6 and 16: a disk in a pool that libvirt cannot look into may be any file.

On a libvirtd of its own: while a guest has such a disk, nobody on that host can delete an image."""
import os
import subprocess

import pytest

from lib import cheap_guest, libvirtd
from program import REFUSED, Program

POOL = "vr-pools"


class Host:
    def __init__(self, uri, fleet):
        self.fleet, self.uri = fleet, uri
        self.program = Program(fleet.path("store"), fleet.dir)
        self.pool = fleet.connection.storagePoolDefineXML(
            f"<pool type='dir'><name>{POOL}</name><target><path>{fleet.dir}</path></target></pool>")
        self.pool.create()

    def __call__(self, *arguments, **options):
        return self.program("-c", self.uri, *arguments, **options)

    def on_volume(self, guest, path, image_format):
        """The guest's OS disk is that file, by its name in the pool."""
        self.pool.refresh()
        disk = (f"<disk type='volume' device='disk'><driver name='qemu' type='{image_format}'/>"
                f"<source pool='{POOL}' volume='{os.path.basename(path)}'/>")
        old = f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file=\"{guest.os_disk}\"/>"
        assert old in guest.xml()
        guest.domain = self.fleet.connection.defineXML(guest.xml().replace(old, disk))


@pytest.fixture(scope="module", name="host")
def fixture_host():
    with libvirtd.PrivateLibvirtd() as private:
        with cheap_guest.Fleet(1, "pools", version="1.0.0", uri=private.uri, os_format="raw") as fleet:
            host = Host(private.uri, fleet)
            host.program.publish("2.0.0")
            yield host


def test_a_pool_that_is_off(host):
    guest = host.fleet[0]
    host.on_volume(guest, guest.os_disk, "raw")
    host("set-define", "-", stdin=host.program.model("volume", [guest.name]))
    host.pool.destroy()
    assert "[volume-not-local]" in host("upgrade", "volume", status=REFUSED).error()
    host.pool.create()
    host("upgrade", "volume", "--dry-run")


def test_a_base_below_a_volume_stays(host):
    guest = host.fleet[0]
    base = os.path.join(host.program.root, "images/cheap/2.0.0/disk.qcow2")
    overlay = host.fleet.path("linked.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay], check=True)
    host.on_volume(guest, overlay, "qcow2")

    def refused(*words):
        line = host("image-delete", "cheap", "2.0.0", status=REFUSED).error()
        assert os.path.exists(base)
        assert not [word for word in words if word not in line], line

    refused("in use", guest.name)
    host.pool.destroy()
    refused(guest.name, "linked.qcow2", f"virsh pool-start {POOL}", "not active")
    host.pool.undefine()
    refused(guest.name, "linked.qcow2", "no storage pool")
    cheap_guest.remove_domain(guest.domain)
    host("image-delete", "cheap", "2.0.0")
    assert not os.path.exists(base)
