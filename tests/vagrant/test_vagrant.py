# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that Vagrant makes: the Vagrantfile is sound; and, with VR_FULL=1 and in this order, two guests from `vagrant up` to `vagrant destroy`."""

import os
import shutil
import subprocess

import pytest

from conftest import TOP
from guest import Guest, wait_for
from proof import assert_same_machines, facts_of

BOX = "virt-reimage-VAGRANTSLASH-lab_vagrant_box_image_1.0.0_box.img"
VAGRANTFILES = ["vagrant/Vagrantfile", "vagrant/box/Vagrantfile"]


def shared():
    lines = (TOP / "vagrant/shared.conf").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


# ---- without guests ----


@pytest.mark.skipif(shutil.which("ruby") is None, reason="ruby is not installed; 'packaging/deps vagrant' installs it")
@pytest.mark.parametrize("name", VAGRANTFILES)
def test_syntax(name):
    assert subprocess.run(["ruby", "-wc", TOP / name], capture_output=True, text=True, check=True).stderr == ""


def test_validate(vagrant):
    assert "validated successfully" in vagrant.vagrant("validate")
    vagrant.env["LAB_GUESTS"] = "many"
    assert "many" in vagrant.vagrant("validate", status=1)


def test_names(vagrant):
    """Number and names are those of the lab, from the one file; the environment goes before it for both."""
    ours = shared()
    assert list(vagrant.states()) == [f"{ours['NAME']}-{i}" for i in range(int(ours["GUESTS"]))]
    vagrant.env.update(LAB_NAME="other", LAB_GUESTS="2")
    assert vagrant.states() == {"other-0": "not_created", "other-1": "not_created"}


# ---- two guests ----


def test_up(host):
    """The box is found by its name and version, and Vagrant gets through to the guests; the blank data disk is filled once."""
    host.box()
    output = host.vagrant("up")
    assert "Successfully added box 'virt-reimage/lab' (v1.0.0)" in output and output.count("Machine booted and ready!") == 2
    for name in host.names:
        wait_for(name)
        host.in_guest(name, f"echo of {name} > /data/mine; echo kept > /tmpdisk/marker; sync")
    assert set(host.states().values()) == {"running"}
    facts = facts_of(host.names)
    assert {one["inside"]["version"] for one in facts.values()} == {"1.0.0"}
    payloads = {one["inside"]["payload_sha256"] for one in facts.values()}
    assert len(payloads) == 2 and "" not in payloads


def test_adopt(host):
    """Row A14: the set is made of them, on the version that they say they run; the image of it is the base of their disks."""
    before = facts_of(host.names)
    output = host.lab("adopt")
    for name in host.names:
        assert f"{name} is adopted as lab-linux 1.0.0 (generation 0, /var/lib/libvirt/images/{name}.img)" in output
    assert facts_of(host.names) == before


def test_upgrade_of_one(host):
    """Row B2: a new OS disk; data disk, temp disk, identity and the address that Vagrant knows stay."""
    before = facts_of(host.names)
    address = host.vagrant("ssh-config", "vg-0")
    host.lab("publish", "good")
    host.reimage("reimage", "vg", "vg-0", "--version", "2.0.0")
    after = facts_of(host.names)
    assert {name: one["inside"]["version"] for name, one in after.items()} == {"vg-0": "2.0.0", "vg-1": "1.0.0"}
    assert after["vg-0"]["disks"]["vda"].startswith(host.store)
    assert_same_machines(before, after)
    assert after["vg-1"] == before["vg-1"]
    assert host.vagrant("ssh-config", "vg-0") == address
    assert host.in_guest("vg-0", "cat /etc/lab-version /data/mine").split() == ["2.0.0", "of", "vg-0"]


def test_vagrant_goes_on_with_it(host):
    """Off and on by Vagrant, it is the new disk that boots."""
    assert host.states() == {"vg-0": "running", "vg-1": "running"}
    host.vagrant("halt", "vg-0")
    assert host.states() == {"vg-0": "shutoff", "vg-1": "running"}
    host.vagrant("up", "vg-0")
    assert host.states() == {"vg-0": "running", "vg-1": "running"}
    wait_for("vg-0")
    assert Guest("vg-0").inside()["version"] == "2.0.0"


def test_destroy_is_refused(host):
    """Neither Vagrant nor the lab removes what the other one needs."""
    before, volumes = facts_of(host.names), host.volumes()
    assert "sudo " in host.vagrant("destroy", "-f", "vg-0", status=1)
    assert "did not make" in host.vagrant("package", "vg-0", status=1)
    assert f"vg-0 has an OS disk in {host.store}" in host.lab("destroy", status=1)
    assert f"vg-0 has an OS disk in {host.store}" in host.lab("demo", status=1)
    assert facts_of(host.names) == before and host.volumes() == volumes
    assert os.path.exists(before["vg-0"]["disks"]["vda"])


def test_release(host):
    """Row B21: back on the disk that Vagrant made, with all else as it is, and out of the set, which is forgotten."""
    before = facts_of(host.names)
    host.lab("release")
    after = facts_of(host.names)
    assert {one["disks"]["vda"] for one in after.values()} == {f"/var/lib/libvirt/images/{name}.img" for name in host.names}
    assert {one["inside"]["version"] for one in after.values()} == {"1.0.0"}
    assert_same_machines(before, after)
    assert "no set" in host.reimage("set-list")


def test_destroy(host):
    """What is left is the box in the pool, which Vagrant never deletes, and of a guest that libvirt has forgotten the data disks."""
    for verb in ("destroy", "undefine"):
        host.run("virsh", "-q", verb, "vg-1")
    host.vagrant("destroy", "-f")
    assert set(host.states().values()) == {"not_created"}
    assert host.run("virsh", "-q", "list", "--all", "--name").split() == []
    assert host.volumes() == {BOX, "vg-1-vdb.qcow2", "vg-1-vdc.qcow2"}
    host.lab("destroy")
    assert not os.path.exists(host.store)
