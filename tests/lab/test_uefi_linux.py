# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows A8, B14, F7: Linux guests that boot by UEFI, and images with the disk layout of Windows, through whole swaps.

No Windows runs here: in its place, at the path of its boot manager, lies our Linux, on a disk with the partitions that Windows makes.
"""
import os

import pytest

from program import Program
from uefi_linux import Fleet, build_image

PREFIX = "uefilinux"
FULL = pytest.mark.skipif(os.environ.get("VR_FULL") != "1", reason="a minute and more of restarts under TCG; VR_FULL=1 runs it")
BOOT_MANAGER = "\\EFI\\Microsoft\\Boot\\bootmgfw.efi"
FALLBACK = "\\EFI\\BOOT\\BOOTX64.EFI"
MODEL = """
schemaVersion: 1
name: {name}
imageReference: {{name: system, version: latest}}
healthProfile:
  applicationHealth: {{protocol: agent, file: /run/health.json}}
{timeouts}
osDisk: {{target: vda}}
stop: {{method: agent, timeout: PT30S, force: true}}
instances:
- {{domain: {domain}}}
"""


class Lab:
    """A guest that runs 1.0.0, in a set of its own."""

    def __init__(self, fleet, timeouts="  healthTimeout: PT3M"):
        self.guest, self.set_name = fleet[0], fleet.prefix
        self.program = Program(fleet.path("store"), fleet.dir)
        self.publish("1.0.0", fleet.image)
        self.program("set-define", "-", stdin=MODEL.format(name=self.set_name, domain=self.guest.name, timeouts=timeouts))
        self.program("adopt", self.set_name, self.guest.name, "--version", "1.0.0")
        self.guest.wait_healthy()

    def publish(self, version, path):
        self.program("image-publish", "system", version, path)

    def upgrade(self):
        self.program("upgrade", self.set_name, timeout=300)

    def rollback(self):
        self.program("rollback", self.set_name, self.guest.name, timeout=300)


def test_linux(tmp_path, sweep):
    """An EFI variable that the new system writes is gone with it: the rollback has the NVRAM as the old system left it."""
    images = {version: build_image(version, str(tmp_path / f"{version}.qcow2")) for version in ("1.0.0", "2.0.0")}
    sweep(f"{PREFIX}-linux-")
    with Fleet(1, f"{PREFIX}-linux", images["1.0.0"], version="1.0.0", start=True) as fleet:
        lab, guest = Lab(fleet), fleet[0]
        lab.publish("2.0.0", images["2.0.0"])
        guest.set_variable("Mine-dec0175a-1111-2222-3333-444455556666", b"the admin's")
        first = guest.boot_id()
        lab.upgrade()
        assert guest.booted_versions() == ["1.0.0", "2.0.0"] and guest.boot_id() != first
        assert guest.systems() == ["1.0.0", "2.0.0"] and "Mine-" in guest.sh("ls /sys/firmware/efi/efivars")
        assert guest.sh("cut -d' ' -f1,3 /data/boots") == "1 1.0.0\n2 2.0.0\n"
        lab.rollback()
        assert guest.booted_versions() == ["1.0.0", "2.0.0", "1.0.0"]
        assert guest.systems() == ["1.0.0"] and "Mine-" in guest.sh("ls /sys/firmware/efi/efivars")


@FULL
def test_windows_layout(tmp_path, sweep):
    """Rows E1, E2: a first boot that restarts twice before anything answers is waited for.  Each disk is started by the boot manager that
    its own NVRAM names; a new one, which no entry names yet, by the fallback path, as that of an image of Windows is."""
    images = {version: build_image(version, str(tmp_path / f"{version}.qcow2"), "--layout", "windows", "--restarts", restarts)
              for version, restarts in (("1.0.0", "0"), ("2.0.0", "2"))}
    sweep(f"{PREFIX}-windows-")
    with Fleet(1, f"{PREFIX}-windows", images["1.0.0"], version="1.0.0", start=True) as fleet:
        lab, guest = Lab(fleet, "  startTimeout: PT3M\n  healthTimeout: PT30S"), fleet[0]
        assert guest.started_from() == FALLBACK
        guest.add_boot_entry(0xB0, BOOT_MANAGER, "Windows Boot Manager")
        guest.domain.shutdown()
        guest.wait_off(60)
        guest.start()
        guest.wait_boot("1.0.0", boots=2)
        guest.wait_healthy()
        assert guest.started_from() == BOOT_MANAGER
        lab.publish("2.0.0", images["2.0.0"])
        assert lab.program.json("image-info", "system", "2.0.0")["boot"]["fallbackLoaders"] == [
            {"path": FALLBACK, "architecture": "x86_64"}]
        lab.upgrade()
        assert guest.booted_versions() == ["1.0.0", "1.0.0", "2.0.0"] and guest.restarts("2.0.0") == 2
        assert guest.started_from() == FALLBACK
        guest.add_boot_entry(0xB0, BOOT_MANAGER, "Windows Boot Manager")
        assert guest.sh("ls -d /sys/block/vda/vda?").split()[-1].endswith("vda4") and guest.systems() == ["1.0.0", "2.0.0"]
        lab.rollback()
        assert guest.booted_versions()[3:] == ["1.0.0"] and guest.started_from() == BOOT_MANAGER
        assert guest.systems() == ["1.0.0"]
