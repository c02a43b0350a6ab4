# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5, H5: the packages on a host with systemd as its process 1, and what becomes of a run there."""
import os

import pytest
from lib import cheap_guest
from shop import DAEMON, GUESTS, SET, begin_run, finish_run, job_units, open_shop, run_processes, run_status, show, wait_done, wait_libvirt

FLOOD = """
import socket
for _ in range(250):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect("/run/virt-reimage/job.sock")
"""
full = pytest.mark.skipif(os.environ.get("VR_FULL") != "1", reason="half a minute: VR_FULL=1")


def test_its_units(shop):
    """K5: what is started by an installation, and who may ask what."""
    for unit in (DAEMON, "virt-reimage.socket", "virt-reimage-ro.socket", "virt-reimage-job.socket"):
        assert show(shop, unit, "ActiveState") == "active"
        assert show(shop, unit, "UnitFileState") == "enabled"
    assert shop("stat", "-c", "%a %U %G", "/run/virt-reimage/virt-reimage.sock", "/run/virt-reimage/virt-reimage-ro.sock",
                "/run/virt-reimage/job.sock").splitlines() == ["660 root virt-reimage", "666 root root", "600 root root"]
    shop("python3", "-c", FLOOD)
    shop.wait_for(lambda: not job_units(shop), 60, "none of them has a word to say")
    assert show(shop, "virt-reimage-job.socket", "ActiveState") == "active", "any number of short jobs in no time"
    for unit in ("virt-reimage-job@a.service", "virt-reimage@a.service"):
        assert show(shop, unit, "DeviceAllow") == "" and show(shop, unit, "DevicePolicy") == "auto", "/dev/kvm and block devices of guests are there"
    shop("useradd", "-m", "-G", "virt-reimage", "ann")
    shop("useradd", "-m", "bob")
    assert shop.versions(SET, user="ann") == ["1.0.0"] * 2
    assert shop.versions(SET, user="bob") == ["1.0.0"] * 2
    assert shop.run(*shop.program("bob"), "reimage", SET, "--all", user="bob").status in (1, 4)
    assert shop.versions(SET) == ["1.0.0"] * 2 and run_status(shop) is None
    shop.reimage("upgrade", SET, user="ann")
    wait_done(shop)
    shop("systemctl", "stop", DAEMON)
    assert shop.versions(SET, user="ann") == ["2.0.0"] * 2, "the socket has started it again"
    assert show(shop, DAEMON, "ActiveState") == "active"
    they_go(shop)


def they_go(host):
    """A removal ends the daemon and its sockets; guests run on."""
    processes, disks = [host.qemu(guest) for guest in GUESTS], host.disks()
    host("dpkg", "--purge", "virt-reimaged", "virt-reimage")
    assert not host.exists("/run/virt-reimage") and not host.exists("/etc/virt-reimage")
    assert "virt-reimage" not in host("systemctl", "list-units", "--all", "--plain", "--no-legend", "virt-reimage*")
    assert host("find", "/etc/systemd/system", "-name", "virt-reimage*") == "" and not host.exists("/usr/share/doc/virt-reimage")
    assert [host.qemu(guest) for guest in GUESTS] == processes and host.disks() == disks


@full
def test_a_daemon_that_is_killed(shop):
    """K5: its death stops no run, and the next one serves the same."""
    processes, daemon = begin_run(shop), show(shop, DAEMON, "MainPID")
    shop("systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", DAEMON)
    shop.wait_for(lambda: show(shop, DAEMON, "MainPID") not in (daemon, "0"), 20, "there is another daemon")
    assert run_processes(shop) == processes
    finish_run(shop)


def test_an_upgrade_of_the_packages(booted, older, debs):
    """K5: a run goes on while its package gets a new version, and so does the daemon, as the new one."""
    open_shop(booted, older)
    processes, daemon = begin_run(booted), show(booted, DAEMON, "MainPID")
    booted.install(debs, *debs.names)
    booted.wait_for(lambda: show(booted, DAEMON, "MainPID") not in (daemon, "0"), 20, "there is another daemon")
    assert run_processes(booted) == processes
    finish_run(booted)


def test_its_drop_folder(booted, debs):
    """K5: what a member of the group puts there is published, by a daemon that may write nowhere else."""
    booted.install(debs, *debs.names)
    booted("useradd", "-m", "-G", "virt-reimage", "ann")
    folder = "/var/spool/virt-reimage/cheap"
    booted("install", "-d", "-m", "2770", "-g", "virt-reimage", os.path.dirname(folder), folder)
    booted.append("/etc/virt-reimage/virt-reimage.conf", "[drop]\ndirectory=/var/spool/virt-reimage\n")
    booted("systemctl", "restart", DAEMON)
    image = booted.write_image("1.0.0")
    booted("sh", "-ec", f"umask 027; cd {folder}; cp {image} 1.0.0.qcow2; sha256sum 1.0.0.qcow2 >1.0.0.qcow2.sha256", user="ann")
    booted.wait_for(lambda: booted.exists(f"{folder}/published/1.0.0.qcow2") or booted.exists(f"{folder}/refused/1.0.0.qcow2"), 40,
                    "the image is taken")
    assert booted.exists(f"{folder}/published/1.0.0.qcow2"), booted("journalctl", "-u", "virt-reimage*")
    assert "1.0.0" in booted.reimage("image-list", user="ann")


@full
def test_a_new_disk_is_written_to(booted, debs):
    """K5, C6: libguestfs's appliance is built and launched in the unit of a job."""
    wait_libvirt(booted)
    booted.install(debs, *debs.names)
    guest = booted.add_guest("web-0")
    booted.publish("1.0.0")
    booted.publish("2.0.0", linux={"/etc/hostname": "image\n"})
    booted.add_set(SET, [guest], more='osProfile: {offlineConfiguration: {hostname: "of-the-set"}}\n')
    booted.reimage("upgrade", SET, timeout=600)
    booted.wait_boot(guest, "2.0.0")
    new = [one["path"] for one in booted.reimage_json("generations", SET, guest)["generations"] if one["state"] == "current"]
    raw = "/var/tmp/new.raw"
    booted("qemu-img", "convert", "-U", "-O", "raw", *new, raw)
    assert booted("debugfs", "-R", "cat /etc/hostname", f"{raw}?offset={cheap_guest.LINUX_AT}").startswith("of-the-set\n")


def test_a_nightly_reimage(shop):
    """H5: the timer begins it at its hour, for the set of its name, and each guest gets a fresh disk of the version that it has. Without a daemon, too."""
    shop("systemctl", "stop", DAEMON, "virt-reimage.socket", "virt-reimage-ro.socket", "virt-reimage-job.socket")
    shop.append("/etc/virt-reimage/hooks.d/slow", '#!/bin/sh\nsleep 1\necho "$1" >>/var/tmp/told\n')
    shop("chmod", "755", "/etc/virt-reimage/hooks.d/slow")
    shop("systemctl", "enable", "--now", f"virt-reimage@{SET}.timer")
    assert "03:00:00" in shop("systemctl", "list-timers", f"virt-reimage@{SET}.timer")
    shop("systemctl", "start", f"virt-reimage@{SET}.service")
    for guest in GUESTS:
        assert shop.booted_versions(guest) == ["1.0.0"] * 2
    assert shop.versions(SET) == ["1.0.0"] * 2
    assert "Main process exited" not in shop("journalctl", "-u", f"virt-reimage@{SET}.service")
    assert "CompletionResult" in shop.read("/var/tmp/told"), "who delivers it has not ended with the unit"
    shop("rm", "/etc/virt-reimage/hooks.d/slow")
    they_go(shop)
