# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5: what becomes of a host with guests when the packages come, change and go."""
from packaged import ROOT

SET, GUESTS = "shop", ["web-0", "web-1"]


def make_set(host):
    for guest in GUESTS:
        host.add_guest(guest)
    host.publish("1.0.0", "2.0.0")
    host.add_set(SET, GUESTS)


def all_run(host, version, processes=None):
    """Each guest runs what it is said to; with processes: it was not touched since."""
    for guest in GUESTS:
        host.wait_boot(guest, version)
    assert processes is None or processes == [host.qemu(guest) for guest in GUESTS]
    return [host.qemu(guest) for guest in GUESTS]


def test_guests_and_disks_are_left_alone(host, older, debs):
    host.install(older, "virt-reimage")
    assert host("getent", "group", "virt-reimage").startswith("virt-reimage:")
    make_set(host)
    host.reimage("upgrade", SET)
    processes, disks = all_run(host, "2.0.0"), host.disks()
    host.append("/etc/virt-reimage/virt-reimage.conf", "[host]\nuri=qemu:///system\n")
    host.append("/etc/virt-reimage/hooks.d/mine", "#!/bin/sh\n")

    host.install(debs, "virt-reimage")  # an upgrade
    host.install(debs, "virt-reimage")  # and the same once more
    all_run(host, "2.0.0", processes)
    assert host.disks() == disks
    assert "uri=qemu:///system" in host.read("/etc/virt-reimage/virt-reimage.conf")
    assert host.versions(SET) == ["2.0.0"] * 2
    host.reimage("rollback", SET, "--all")
    processes, disks = all_run(host, "1.0.0"), host.disks()

    host("dpkg", "--remove", "virt-reimage")
    all_run(host, "1.0.0", processes)
    assert host.disks() == disks and not host.exists("/usr/bin/virt-reimage")
    assert "uri=qemu:///system" in host.read("/etc/virt-reimage/virt-reimage.conf")
    said = host("dpkg", "--purge", "virt-reimage")
    all_run(host, "1.0.0", processes)
    assert host.disks() == disks and host.exists(f"{ROOT}/state.db")
    assert f"{ROOT} stays" in said and "/etc/virt-reimage stays" in said
    assert not host.exists("/etc/virt-reimage/virt-reimage.conf") and host.exists("/etc/virt-reimage/hooks.d/mine")
    assert not host.exists("/run/virt-reimage")
    host("virsh", "destroy", GUESTS[0])
    host("virsh", "start", GUESTS[0])
    host.wait_boot(GUESTS[0], "1.0.0")

    host.install(debs, "virt-reimage")  # and it knows its set again
    host.reimage("upgrade", SET)
    all_run(host, "2.0.0")
