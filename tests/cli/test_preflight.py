# SPDX-License-Identifier: LGPL-2.1-or-later
"""What forbids a swap, on real libvirt: each blocker that libvirt can be brought to is refused by plan and by upgrade with the guest
untouched, and let pass when it is gone. B12, B18, B22. --ignore, and what of it is in the audit.
"""
import os
import sqlite3
import subprocess
import uuid

import libvirt
import pytest

from lib import cheap_guest
from program import REFUSED, USAGE

BACKUP = "<domainbackup mode='pull'><server transport='unix' socket='{}'/><disks><disk name='vda' backup='no'/>" \
         "<disk name='vdb' type='file'><scratch file='{}'/></disk></disks></domainbackup>"


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "pre", batch=50)


def findings(plan, domain):
    return {one["id"]: one for one in plan["findings"] if one["domain"] == domain}


def refused(lab, finding, index=0):
    """plan and upgrade both say so, for this guest alone, and nothing is touched; returns the finding."""
    name = lab.names[index]
    ids = [guest.domain.ID() for guest in lab.fleet]
    plan = lab.program("--json", "plan", lab.set_name, "--version", "2.0.0", status=REFUSED)
    blockers = {key: one for key, one in findings(plan.json, name).items() if one["severity"] == "blocker"}
    assert list(blockers) == [finding], blockers
    assert [one for one in findings(plan.json, lab.names[1 - index]).values() if one["severity"] == "blocker"] == []
    line = lab.program.fails(REFUSED, "upgrade", lab.set_name, "--version", "2.0.0")
    assert f"[{finding}]" in line and name in line
    assert f"blocker: {blockers[finding]['text']} [{finding}]" in lab.program(
        "plan", lab.set_name, "--version", "2.0.0", status=REFUSED).out
    assert [guest.domain.ID() for guest in lab.fleet] == ids
    return blockers[finding]


def let_through(lab):
    plan = lab.program.json("plan", lab.set_name, "--version", "2.0.0")
    assert [one for one in plan["findings"] if one["severity"] == "blocker"] == []


def restarted(guest, boots):
    guest.start()
    guest.wait_boot("1.0.0", boots=boots)


def test_a_good_guest_has_only_warnings(lab):
    let_through(lab)
    plan = lab.program.json("plan", lab.set_name, "--version", "2.0.0")
    assert set(findings(plan, lab.names[0])) == {"no-autostart"}
    lab.fleet[0].domain.setAutostart(1)
    plan = lab.program.json("plan", lab.set_name, "--version", "2.0.0")
    assert set(findings(plan, lab.names[0])) == set()
    lab.fleet[0].domain.setAutostart(0)


def test_managed_save(lab):
    guest = lab.fleet[0]
    guest.domain.managedSave()
    assert f"virsh managedsave-remove {guest.name}" in refused(lab, "managed-save")["remedy"]
    guest.domain.managedSaveRemove()
    let_through(lab)
    restarted(guest, boots=2)


def test_snapshot(lab):
    guest = lab.fleet[0]
    snapshot = guest.domain.snapshotCreateXML(
        "<domainsnapshot><name>one</name><disks><disk name='vda' snapshot='no'/><disk name='vdb' snapshot='external'/>"
        "</disks></domainsnapshot>", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    assert f"virsh snapshot-delete {guest.name}" in refused(lab, "snapshots")["remedy"]
    snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    let_through(lab)
    guest.domain.blockCommit("vdb", None, None, 0,
                             libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | libvirt.VIR_DOMAIN_BLOCK_COMMIT_SHALLOW)
    refused(lab, "job")  # libvirt goes on mirroring until it is told to pivot
    cheap_guest.wait_for(lambda: guest.domain.blockJobInfo("vdb").get("cur") == guest.domain.blockJobInfo("vdb").get("end"), 20,
                         "the commit catches up")
    guest.domain.blockJobAbort("vdb", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    cheap_guest.wait_for(lambda: not guest.domain.blockJobInfo("vdb"), 20, "the commit ends")
    let_through(lab)


def test_checkpoint(lab):
    guest = lab.fleet[0]
    checkpoint = guest.domain.checkpointCreateXML(
        "<domaincheckpoint><name>monday</name><disks><disk name='vda' checkpoint='bitmap'/><disk name='vdb' checkpoint='no'/>"
        "</disks></domaincheckpoint>")
    remedy = refused(lab, "checkpoints")["remedy"]
    assert "--metadata" in remedy and "the next backup is then a full one" in remedy
    checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    let_through(lab)


def test_backup(lab):
    guest = lab.fleet[0]
    place = lab.fleet.path("backup")  # of QEMU's user
    os.mkdir(place)
    os.chmod(place, 0o777)
    guest.domain.backupBegin(BACKUP.format(os.path.join(place, "nbd"), os.path.join(place, "scratch")), None)
    assert "backup" in refused(lab, "job")["text"]
    guest.domain.abortJob()
    cheap_guest.wait_for(lambda: guest.domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE, 20, "the backup ends")
    let_through(lab)


def test_paused(lab):
    guest = lab.fleet[0]
    guest.domain.suspend()
    assert f"virsh resume {guest.name}" in refused(lab, "not-running-or-off")["remedy"]
    guest.domain.resume()
    let_through(lab)


@pytest.mark.parametrize("way", ["inactive", "live"])
def test_shared_os_disk(lab, way):
    """Another domain names it: one that is off, or one that runs with it (from a copy of its XML) and has another one when it is off."""
    guest = lab.fleet[0]
    name = f"{lab.set_name}-other"
    settings = {"name": name, "os_format": "qcow2", "uuid": str(uuid.uuid4())}
    shared = cheap_guest.domain_xml(os_path=guest.os_disk, **settings)
    if way == "inactive":
        other = lab.fleet.connection.defineXML(shared)
    else:
        guest.destroy()
        own = cheap_guest.write_os_disk(lab.fleet.path("other.qcow2"), "1", "qcow2")
        other = lab.fleet.connection.createXML(shared)
        lab.fleet.connection.defineXML(cheap_guest.domain_xml(os_path=own, **settings))
    try:
        assert name in refused(lab, "shared-os-disk")["text"]
    finally:
        cheap_guest.remove_domain(other)
    let_through(lab)
    if way == "live":
        restarted(guest, boots=3)


def test_a_snapshot_of_its_own(lab):
    """libvirt does not know it. It is safe to let pass, and that is on record."""
    guest = lab.fleet[0]
    guest.destroy()
    subprocess.run(["qemu-img", "snapshot", "-c", "mine", guest.os_disk], check=True)
    restarted(guest, boots=4)
    assert "--ignore internal-snapshot" in refused(lab, "internal-snapshot")["remedy"]
    program, name = lab.program, lab.set_name
    assert "[managed-save] is never ignored" in program.fails(REFUSED, "upgrade", name, "--ignore", "managed-save")
    assert "is no finding" in program.fails(USAGE, "plan", name, "--ignore", "snapshot")
    assert "stops nothing" in program.fails(USAGE, "reimage", name, "--all", "--ignore", "no-autostart")
    out = program("plan", name, "--version", "2.0.0", "--ignore", "internal-snapshot").out
    assert f"ignored: {guest.name}: its OS disk vda holds 1 internal snapshot" in out
    plan = program.json("upgrade", name, "--version", "2.0.0", "--ignore", "internal-snapshot", "--dry-run")
    found = findings(plan, guest.name)["internal-snapshot"]
    assert (found["severity"], found["ignored"], found["chosen"]) == ("blocker", True, True)
    program("reimage", name, guest.name, "--version", "2.0.0", "--ignore", "internal-snapshot")
    assert lab.versions() == {guest.name: "2.0.0", lab.names[1]: "1.0.0"}
    database = sqlite3.connect(f"file:{os.path.join(program.root, 'state.db')}?mode=ro", uri=True)
    events = database.execute("SELECT uuid, text FROM events WHERE kind = 'ignored'").fetchall()
    database.close()
    assert len(events) == 1 and events[0][0] == guest.uuid and events[0][1].startswith("[internal-snapshot] ")
    program("rollback", name, guest.name)
    assert lab.versions() == lab.all_on("1.0.0")
    assert b"mine" in subprocess.run(["qemu-img", "snapshot", "-l", "-U", guest.os_disk], check=True,
                                     stdout=subprocess.PIPE).stdout
    guest.destroy()
    subprocess.run(["qemu-img", "snapshot", "-d", "mine", guest.os_disk], check=True)
    restarted(guest, boots=6)
    let_through(lab)


def test_disks_that_libvirt_does_not_label(lab):
    """libvirt refuses the base's own label in such a domain."""
    guest = lab.fleet[0]
    files = [guest.os_disk] + [path for path, _, _ in guest.data]
    user = os.stat(guest.os_disk).st_uid  # of QEMU, while it runs
    before = guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    label = f"<seclabel type='static' model='dac' relabel='no'><label>+{user}:+{user}</label></seclabel></domain>"
    guest.destroy()
    boots = len(guest.booted_versions())
    for path in files:
        os.chown(path, user, user)
    lab.fleet.connection.defineXML(before.replace("</domain>", label))
    try:
        restarted(guest, boots=boots + 1)
        assert "relabel='yes'" in refused(lab, "disks-not-labelled")["remedy"]
    finally:
        guest.destroy()
        lab.fleet.connection.defineXML(before)
        restarted(guest, boots=boots + 2)
    let_through(lab)


def test_an_image_that_cannot_boot_here(lab):
    """B22: an image for UEFI, a guest of BIOS; and one with nothing on it."""
    program = lab.program
    path = program.path("uefi.raw")
    subprocess.run(["truncate", "-s", "8M", path], check=True)
    subprocess.run(["sfdisk", "-q", path], check=True, text=True,
                   input="label: gpt\nsize=1M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
                         "type=B921B045-1DF0-41C3-AF44-4C6F280D3FAE\n")
    program("image-publish", "cheap", "7.0.0", path)
    info = program.json("image-info", "cheap", "7.0.0")["boot"]
    assert info == {"bios": False, "uefi": True, "architecture": "aarch64", "sectorSizeBytes": 512, "fallbackLoaders": None}
    assert program.json("image-info", "cheap", "2.0.0")["boot"] == {"bios": True, "uefi": False, "architecture": None,
                                                                  "sectorSizeBytes": None, "fallbackLoaders": None}
    assert "UEFI" in program("image-info", "cheap", "7.0.0").out
    plan = program("--json", "plan", lab.set_name, "--version", "7.0.0", status=REFUSED).json
    found = findings(plan, lab.names[0])
    assert {"image-architecture", "image-firmware"} <= set(found)
    assert "cheap 7.0.0 boots only by UEFI" in found["image-firmware"]["text"]
    plan = program.json("plan", lab.set_name, "--version", "7.0.0", "--ignore", "image-firmware", "--ignore",
                        "image-architecture")
    assert findings(plan, lab.names[0])["image-firmware"]["ignored"]
    program("image-publish", "cheap", "8.0.0", program.image("8.0.0", boots=False))
    plan = program.json("plan", lab.set_name, "--version", "8.0.0")
    assert findings(plan, lab.names[0])["image-not-bootable"]["severity"] == "warning"
    program("image-delete", "cheap", "7.0.0")
    program("image-delete", "cheap", "8.0.0")


def test_a_protected_disk(lab):
    """B12: by serial; one that is the OS disk, and one that is not there."""
    name, serial = lab.names[0], lab.fleet[0].data[0][2]
    lab.define(batch=50, labels={name: f"protectDisks: [{serial}]"})
    let_through(lab)
    lab.define(batch=50, labels={name: f"protectDisks: [{serial}, vda]"})
    assert "it is the OS disk" in refused(lab, "protected-disk")["text"]
    lab.define(batch=50, labels={name: "protectDisks: [GONE01]"})
    assert "'GONE01'" in refused(lab, "protected-disk-missing")["text"]
    lab.define(batch=50)
    let_through(lab)


def test_a_host_that_goes_down(lab, monkeypatch):
    """systemctl says so; nothing is touched."""
    tools = lab.program.path("tools")
    os.mkdir(tools)
    with open(os.path.join(tools, "systemctl"), "w", encoding="ascii") as script:
        script.write("#!/bin/sh\necho stopping\nexit 1\n")
    os.chmod(script.name, 0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    line = lab.program.fails(REFUSED, "upgrade", lab.set_name, "--version", "2.0.0")
    assert "[host-stopping]" in line
