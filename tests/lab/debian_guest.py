# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian guests with systemd, cloud-init and sshd, from the image that debian-image builds, on a network with DHCP of the test's own.

They are guests of a Fleet (tests/lib/cheap_guest.py): files in one directory, removed whatever happened.  A guest has a data disk, and
a NoCloud seed where the test gives it one.  It is up when it says so on its console, after the last stage of cloud-init.
"""
import os
import re
import subprocess

import guest as lab_guest
from lib import cheap_guest

HERE = os.path.dirname(os.path.abspath(__file__))
MEMORY_MIB = 384
# Under TCG, with both cores taken by others.
BOOT_TIMEOUT = 300


def build_image(version, path):
    subprocess.run([os.path.join(HERE, "debian-image"), version, path], check=True)
    return path


def write_seed(path, meta_data, user_data):
    """A NoCloud seed as a user makes one."""
    directory = path + ".d"
    os.mkdir(directory)
    for name, text in (("meta-data", meta_data), ("user-data", user_data)):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r", "-o", path, directory], check=True,
                   stderr=subprocess.DEVNULL)
    return path


class Guest(cheap_guest.Guest):
    """One of a Fleet."""

    def __init__(self, fleet, name, index):
        super().__init__(fleet, name, index)
        self.seed = None

    def make_files(self, version, **options):
        subprocess.run(["cp", "--reflink=auto", self.fleet.images[version], self.os_disk], check=True)
        os.chmod(self.os_disk, 0o600)  # as an admin's disks are: secrets of the guest are on it
        for path, _, _ in self.data:
            subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "lab-data", path, "16M"], check=True)
        if self.fleet.user_data is not None:
            meta_data = f"instance-id: {self.name}-by-hand\nlocal-hostname: {self.name}\n"
            self.seed = write_seed(self.fleet.path(f"{self.name}.seed.iso"), meta_data, self.fleet.user_data)

    def xml(self, **changes):
        devices = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
        if self.seed:
            devices += (f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{self.seed}'/>"
                        "<target dev='hdc' bus='ide'/><readonly/></disk>")
        devices += self.fleet.network.interface_xml(self.mac)
        return super().xml(**{"memory_mib": MEMORY_MIB, "extra_devices": devices, "mac": None, **changes})

    # ---- what it says on its console ----

    def boots(self):
        """(version, health) of each boot that came to its end, oldest first."""
        return re.findall(r"lab-guest: version (\S+) is (\w+)", self.console_text())

    def wait_boot(self, version, timeout=BOOT_TIMEOUT, boots=1):
        def is_up():
            seen = self.boots()
            return len(seen) >= boots and seen[-1][0] == version
        cheap_guest.wait_for(is_up, timeout, f"{self.name} comes up with {version}; it said {self.boots()}")

    # ---- what is inside, through its agent ----

    def sh(self, script):
        return lab_guest.Guest(self.name).run("/bin/sh", "-c", script)

    def identity(self):
        """Who it is, as itself and others see it."""
        address = self.sh("ip -4 -o address show dev eth0").split()[3].removesuffix("/24")
        mac, client = self.fleet.network.leases()[address]
        assert mac == self.mac
        return {"hostname": self.sh("hostname").strip(), "machine-id": self.sh("cat /etc/machine-id").strip(), "address": address,
                "dhcp-client": client, "host-key": self.host_key(address)}

    def host_key(self, address):
        """As an ssh client in its network sees it."""
        scanned = self.fleet.network.run("ssh-keyscan", "-T", "20", "-t", "ed25519", address)
        (line,) = [line for line in scanned.splitlines() if line.startswith(address)]
        return line.split(maxsplit=1)[1]


class Fleet(cheap_guest.Fleet):
    """images: version -> the file that build_image() made; network: a lib.dhcp_network.Network; user_data: of a seed that is in each
    guest's CD-ROM from the start, None: there is none."""

    guest_class = Guest

    def __init__(self, n, prefix, images, network, user_data=None, **options):
        super().__init__(n, prefix, agent=True, **options)
        self.images, self.network, self.user_data = images, network, user_data
