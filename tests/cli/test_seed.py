# SPDX-License-Identifier: LGPL-2.1-or-later
"""C1, C2, C5, C7, C11: a new OS disk finds its seed in a CD-ROM drive that QEMU has open; it goes and comes back with its generation."""
import json
import os
import stat
import subprocess
from xml.etree import ElementTree

import libvirt
import pytest

from program import DONE, REFUSED, USAGE

SECRET = "pa55word-of-the-guest"
TOKEN = "token-that-was-renewed"
PROFILE = """osProfile:
  computerName: "@{instance.name}"
  customData: {file: user-data, template: true}
  metaData: {place: "@{instance.upgradeDomain}/@{image.version}"}
"""


class Seeds:
    def __init__(self, lab):
        self.lab, self.program, self.set_name = lab, lab.program, lab.set_name
        self.guest, self.other = lab.fleet[0], lab.fleet[1]

    def write(self, secret, mode=0o600):
        path = self.program.write("user-data", f"#cloud-config\nhostname: @{{instance.name}}\npassword: {secret}\n")
        os.chmod(path, mode)

    def define(self, profile=PROFILE, status=DONE):
        model = self.program.model(self.set_name, self.lab.names, more=profile)
        return self.program("set-define", self.program.write("set.yaml", model), status=status)

    def path(self, number, guest=None):
        return os.path.join(self.program.root, "disks", (guest or self.guest).uuid, f"g{number}.seed.iso")

    def current(self, guest=None):
        kept = self.program.json("generations", self.set_name, (guest or self.guest).name)["generations"]
        return next(one for one in kept if one["state"] == "current")


@pytest.fixture(scope="module", name="seeds")
def fixture_seeds(make_lab):
    seeds = Seeds(make_lab(2, "seed", batch=100))
    seeds.write(SECRET)
    seeds.define()
    return seeds


def drives(guest, flags=libvirt.VIR_DOMAIN_XML_INACTIVE):
    root = ElementTree.fromstring(guest.domain.XMLDesc(flags))
    return [(disk.find("source").get("file"), disk.find("target").get("bus"), disk.find("readonly") is not None)
            for disk in root.iter("disk") if disk.get("device") == "cdrom"]


def opened_by_qemu(guest):
    with open(f"/run/libvirt/qemu/{guest.name}.pid", encoding="ascii") as file:
        pid = file.read().strip()
    links = [os.path.join("/proc", pid, "fd", fd) for fd in os.listdir(f"/proc/{pid}/fd")]
    return sorted(path for path in (os.readlink(link) for link in links if os.path.islink(link)) if path.endswith(".iso"))


def part(path, name):
    return subprocess.run(["isoinfo", "-R", "-i", path, "-x", name], capture_output=True, text=True, check=True).stdout


def mode_and_owner(path):
    of = os.stat(path)
    return stat.S_IMODE(of.st_mode), of.st_uid


def test_what_cannot_be_is_refused_before_anything(seeds):
    """C5: while all guests run, with its name."""
    running = [guest.domain.ID() for guest in seeds.lab.fleet]
    assert "osProfile.computerName: \"a b\" of" in seeds.define('osProfile: {computerName: "a b"}\n', USAGE).error()
    large = seeds.program.path("large")
    with open(large, "wb") as file:
        file.truncate(16 * 1024 * 1024)
    os.mkfifo(seeds.program.path("fifo"))
    for file, why in (("large", "has 16777216 bytes, at most 524288"), ("fifo", "is no regular file"), ("none", "cannot be read")):
        seeds.define(f"osProfile: {{customData: {{file: {file}}}}}\n")
        for command in (("plan",), ("upgrade",)):
            line = seeds.program(*command, seeds.set_name, "--version", "2.0.0", status=REFUSED).error()
            assert "osProfile.customData: " in line and why in line
    assert [guest.domain.ID() for guest in seeds.lab.fleet] == running
    seeds.write(SECRET, 0o644)
    assert "is open to every user of this host (mode 0644)" in seeds.define().err
    plan = seeds.program.json("plan", seeds.set_name, "--version", "2.0.0")
    assert plan["seed"] is True and any("open to every user" in one for one in plan["warnings"])
    seeds.write(SECRET)
    assert "seed: each new OS disk gets one" in seeds.program("plan", seeds.set_name, "--version", "2.0.0").out


def test_a_new_disk_has_its_own(seeds):
    """C1, C7: attached, open in QEMU, of this guest and generation."""
    seeds.program("upgrade", seeds.set_name, "--version", "2.0.0")
    for guest in seeds.lab.fleet:
        guest.wait_boot("2.0.0", boots=2)
        path = seeds.path(1, guest)
        assert drives(guest) == drives(guest, 0) == [(path, "ide", True)]
        assert opened_by_qemu(guest) == [path]
        assert part(path, "/user-data") == f"#cloud-config\nhostname: {guest.name}\npassword: {SECRET}\n"
        place = f"{seeds.lab.status()['instances'][0]['upgradeDomain']}/2.0.0"
        assert part(path, "/meta-data") == (f"instance-id: {guest.uuid}-g1-2.0.0\nlocal-hostname: \"{guest.name}\"\n"
                                            f"place: \"{place}\"\n")
        assert seeds.current(guest)["seed"] == path
        assert mode_and_owner(path)[0] == 0o600


def test_renewed_content_comes_with_apply(seeds):
    """C11: nothing of the model was edited."""
    assert "up to date with the model" in seeds.program("apply", seeds.set_name, "--all").out
    seeds.write(TOKEN)
    seeds.program("apply", seeds.set_name, seeds.guest.name)
    seeds.guest.wait_boot("2.0.0", boots=3)
    assert opened_by_qemu(seeds.guest) == [seeds.path(2)]
    assert TOKEN in part(seeds.path(2), "/user-data")
    assert f"{seeds.guest.uuid}-g2-2.0.0" in part(seeds.path(2), "/meta-data")
    assert mode_and_owner(seeds.path(1)) == (0o400, 0)  # libvirt leaves it with QEMU's user
    assert seeds.current(seeds.other)["generation"] == 1
    assert "up to date with the model" in seeds.program("apply", seeds.set_name, seeds.guest.name).out


def test_a_rollback_brings_the_old_one_back(seeds):
    seeds.program("rollback", seeds.set_name, seeds.guest.name)
    seeds.guest.wait_boot("2.0.0", boots=4)
    assert opened_by_qemu(seeds.guest) == [seeds.path(1)]
    assert f"{seeds.guest.uuid}-g1-2.0.0" in part(seeds.path(1), "/meta-data")
    assert mode_and_owner(seeds.path(2)) == (0o400, 0)
    seeds.program("rollback", seeds.set_name, seeds.guest.name, "--to-generation", "0")
    seeds.guest.wait_boot("1.0.0", boots=5)
    assert drives(seeds.guest) == drives(seeds.guest, 0) == [] and opened_by_qemu(seeds.guest) == []


def test_a_model_without_it(seeds):
    seeds.define("")
    seeds.program("apply", seeds.set_name, seeds.other.name)
    seeds.other.wait_boot("2.0.0", boots=3)
    assert drives(seeds.other) == [] and seeds.current(seeds.other)["seed"] is None
    assert not os.path.exists(seeds.path(2, seeds.other))


def test_the_secrets_are_in_the_seeds_alone(seeds):
    """Invariant 29: of all files of the store, and libvirt's logs of these guests; and no seed is open to others."""
    said = json.dumps(seeds.program.json("history", seeds.set_name)) + seeds.program("set-dump", seeds.set_name).out
    assert SECRET not in said and TOKEN not in said
    found = subprocess.run(["grep", "-rlaE", f"{SECRET}|{TOKEN}", seeds.program.root, "/var/log/libvirt", "/run/libvirt"],
                           capture_output=True, text=True, check=False).stdout.split()
    assert sorted(found) == sorted([seeds.path(1), seeds.path(2), seeds.path(1, seeds.other)])
    assert all(mode_and_owner(path)[0] & 0o077 == 0 for path in found)
