# SPDX-License-Identifier: LGPL-2.1-or-later
"""Linux guests that boot by UEFI from the image that uefi-image builds, with OVMF: the lab's guest, with agent, data disk and health
report, whose NVRAM can be read and written from inside."""
import os
import re
import struct
import subprocess
import uuid as uuid_module

import guest as lab_guest
from lib import cheap_guest, uefi_guest

HERE = os.path.dirname(os.path.abspath(__file__))
MEMORY_MIB = 256
VARIABLES = "/sys/firmware/efi/efivars"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"  # the firmware's own variables (UEFI 2.10, 3.3)
NON_VOLATILE_AT_BOOT_AND_RUN_TIME = 7


def build_image(version, path, *options):
    subprocess.run([os.path.join(HERE, "uefi-image"), *options, version, path], check=True)
    return path


def boot_entry(partition, start, sectors, path, description):
    """An EFI_LOAD_OPTION for a file in the first partition of a GPT disk (UEFI 2.10, 3.1.3, 10.3.5.1 and 10.3.5.4)."""
    hard_drive = struct.pack("<BBHIQQ16sBB", 4, 1, 42, 1, start, sectors, uuid_module.UUID(partition).bytes_le, 2, 2)
    name = path.encode("utf-16-le") + b"\0\0"
    file_path = struct.pack("<BBH", 4, 4, 4 + len(name)) + name
    paths = hard_drive + file_path + struct.pack("<BBH", 0x7F, 0xFF, 4)
    return struct.pack("<IH", 1, len(paths)) + description.encode("utf-16-le") + b"\0\0" + paths


class Guest(uefi_guest.Guest):
    """One of a Fleet."""

    def make_files(self, version, **options):
        subprocess.run(["cp", "--reflink=auto", self.fleet.image, self.os_disk], check=True)
        for path, _, _ in self.data:
            subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", path, "16M"], check=True)

    def xml(self, **changes):
        return super().xml(**{"memory_mib": MEMORY_MIB, **changes})

    def booted_versions(self):
        return re.findall(r"lab-guest: version (\S+) is up", self.console_text())

    def restarts(self, version):
        """How often it restarted by itself in that version, before it was up."""
        return len(re.findall(rf"lab-guest: restart \d+ of version {re.escape(version)}\b", self.console_text()))

    def started_from(self):
        """The file that the firmware started last."""
        return re.findall(r"lab-guest: started from (\S+)", self.console_text())[-1]

    def sh(self, script):
        return lab_guest.Guest(self.name).run("/bin/sh", "-c", script)

    def boot_id(self):
        return self.sh("cat /proc/sys/kernel/random/boot_id").strip()

    def wait_healthy(self):
        lab_guest.wait_for(self.name)

    # ---- its NVRAM, from inside ----

    def systems(self):
        """The versions that have written their variable into it."""
        return re.findall(r"^Vr-([0-9.]+)-", self.sh(f"ls {VARIABLES}"), re.MULTILINE)

    def set_variable(self, name, value):
        data = "".join(f"\\{byte:03o}" for byte in struct.pack("<I", NON_VOLATILE_AT_BOOT_AND_RUN_TIME) + value)
        self.sh(f"printf '{data}' >{VARIABLES}/{name}")

    def add_boot_entry(self, number, path, description):
        """As a system that is set up does: an entry for a file of its ESP, before all others."""
        size = [int(word) for word in self.sh("cat /sys/block/vda/vda1/start /sys/block/vda/vda1/size").split()]
        partition = self.sh(f"tail -c +5 {VARIABLES}/LoaderDevicePartUUID-* | tr -d '\\000'")  # the stub's: where it was started from
        self.set_variable(f"Boot{number:04X}-{GLOBAL}", boot_entry(partition, *size, path, description))
        order = self.sh(f"tail -c +5 {VARIABLES}/BootOrder-{GLOBAL} | od -An -v -tx1").split()
        self.set_variable(f"BootOrder-{GLOBAL}", struct.pack("<H", number) + bytes.fromhex("".join(order)))


class Fleet(uefi_guest.Fleet):
    """image: the file that build_image() made."""

    guest_class = Guest

    def __init__(self, n, prefix, image, **options):
        super().__init__(n, prefix, agent=True, **options)
        self.image = image
