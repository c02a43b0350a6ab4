# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stopping, on real guests: one that reboots instead, one that somebody starts in the middle, one that was off. B15, B16."""
import threading
import time

import libvirt
import pytest

from lib import cheap_guest
from program import DONE, FAILED, IMAGE, POLICY, REFUSED


class TestGuestThatReboots:
    """It answers the power button by a reboot: it is on at the deadline, whatever it did until then."""

    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(1, "reboot", guest={"reboots": True}, stop="timeout: PT3S, force: false")

    def test_without_force_it_stays(self, lab):
        guest = lab.fleet[0]
        before = guest.domain.ID()
        line = lab.program("upgrade", lab.set_name, "--version", "2.0.0", status=FAILED).error()
        assert "did not stop within 3.0 s" in line and "stop.force" in line
        assert lab.versions() == lab.all_on("1.0.0") and guest.domain.ID() == before
        guest.wait_boot("1.0.0", boots=2)  # it did reboot, in the same QEMU
        (view,) = lab.status()["instances"]
        assert view["lastSwap"]["state"] == "DISCARDED"

    def test_with_force_it_is_switched_off(self, lab):
        lab.define(stop="timeout: PT3S, force: true")
        lab.program("upgrade", lab.set_name, "--version", "2.0.0")
        assert lab.versions() == lab.all_on("2.0.0")
        assert lab.fleet[0].booted_versions()[-1] == "2.0.0"


class TestASystemThatHangs:
    """K1: what docs/guides/roll-back.md says of it. The new system does not look at its power button; the old one did."""

    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        lab = make_lab(1, "hangs", stop="timeout: PT3S")
        path = cheap_guest.write_os_disk(lab.program.path("hangs.qcow2"), "9.0.0", "qcow2", ignore_acpi=True)
        lab.program("image-publish", IMAGE, "9.0.0", path)
        lab.program("upgrade", lab.set_name, "--version", "9.0.0")
        return lab

    def test_it_goes_back_when_the_model_has_force(self, lab):
        back = ("rollback", lab.set_name, lab.names[0])
        assert "did not stop within 3.0 s" in lab.program(*back, status=POLICY).err
        assert lab.versions() == lab.all_on("9.0.0")
        lab.define(stop="timeout: PT3S, force: true")
        lab.program(*back)
        assert lab.versions() == lab.all_on("1.0.0") and lab.fleet[0].booted_versions()[-1] == "1.0.0"


class TestGuestsThatAreOff:
    """B16"""

    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(2, "off", batch=50)

    def test_off_stays_off(self, lab):
        on, off = lab.fleet
        off.destroy()
        lab.program("upgrade", lab.set_name, "--version", "2.0.0")
        assert lab.versions() == lab.all_on("2.0.0")
        assert not off.is_running() and off.booted_versions() == ["1.0.0"]
        assert on.is_running() and on.booted_versions() == ["1.0.0", "2.0.0"]
        lab.program("rollback", lab.set_name, off.name)
        assert not off.is_running() and off.booted_versions() == ["1.0.0"]
        off.start()
        off.wait_boot("1.0.0", boots=2)

    def test_started_in_the_middle(self, lab):
        """Somebody starts it as soon as he sees it off: it ends on one of the two disks, with the journal in step, and runs."""
        guest = lab.fleet[1]
        done = threading.Event()
        started = []

        def somebody():
            connection = libvirt.open(cheap_guest.URI)
            domain = connection.lookupByUUIDString(guest.uuid)
            while not done.is_set() and not started:
                try:
                    domain.create()
                    started.append(time.monotonic())
                except libvirt.libvirtError:
                    time.sleep(0.001)  # it runs, or is on its way
            connection.close()

        thread = threading.Thread(target=somebody)
        thread.start()
        try:
            result = lab.program.run("reimage", lab.set_name, guest.name, "--version", "3.0.0")
        finally:
            done.set()
            thread.join()
        assert result.status in (DONE, FAILED, REFUSED), result.err  # refused: it was seen on its way up, and not touched
        version = lab.versions()[guest.name]
        assert version == ("3.0.0" if result.status == DONE else "1.0.0")
        assert guest.is_running()
        guest.wait_boot(version, boots=3)
        running = guest.domain.XMLDesc()
        assert guest.configured_os_disk() in running
        lab.program("reimage", lab.set_name, guest.name, "--version", "3.0.0")
        assert lab.versions()[guest.name] == "3.0.0"


class TestPreparedAhead:
    """What comes between the preparation of a guest and its turn leaves it untouched."""

    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(2, "ahead", batch=50, policy="    pauseTimeBetweenBatches: PT6S\n")

    def test_snapshot_in_between(self, lab):
        second = lab.fleet[1]
        run = lab.program.start("upgrade", lab.set_name, "--version", "2.0.0")
        prepared = f"/{second.uuid}/g1.qcow2"
        cheap_guest.wait_for(lambda: lab.program.snapshot() and any(
            path.endswith(prepared) for path in lab.program.snapshot()), 60, "the second guest is prepared")
        second.domain.snapshotCreateXML("<domainsnapshot><name>now</name><disks><disk name='vda' snapshot='no'/>"
                                        "<disk name='vdb' snapshot='external'/></disks></domainsnapshot>",
                                        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
        before = second.domain.ID()
        _, err = run.communicate(timeout=90)
        assert run.returncode == REFUSED and "[snapshots]" in err, err
        assert lab.versions() == {lab.names[0]: "2.0.0", lab.names[1]: "1.0.0"}
        assert second.domain.ID() == before and second.booted_versions() == ["1.0.0"]
        views = {view["domain"]: view for view in lab.status()["instances"]}
        assert views[second.name]["lastSwap"]["state"] == "DISCARDED"
        lab.program.fails(REFUSED, "retry", lab.set_name)
