# SPDX-License-Identifier: LGPL-2.1-or-later
"""Command tests: the program itself against real libvirt with guests that cost next to nothing."""
import fcntl
import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lib import cheap_guest, libvirtd  # noqa: E402
from program import Program  # noqa: E402

PREFIX = "cli" + os.environ.get("PYTEST_XDIST_WORKER", "")  # several at a time, each with guests of its own
turn = None  # held until the process ends


@pytest.fixture(scope="session", autouse=True)
def host():
    """libvirtd runs, and no guest of an earlier, killed test is left."""
    libvirtd.ensure()
    global turn
    turn = open(f"/run/virt-reimage-test-{PREFIX}.lock", "w", encoding="ascii")
    fcntl.flock(turn, fcntl.LOCK_EX)  # another run of these tests on this host sweeps the same names
    cheap_guest.sweep(f"{PREFIX}-")


@pytest.fixture
def work():
    """A directory that QEMU's user can pass, for a store and images."""
    path = tempfile.mkdtemp(prefix=cheap_guest.DIR_PREFIX, dir=cheap_guest.STATE_DIR)
    os.chmod(path, 0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def program(work):
    """The program over a store that is not there yet."""
    return Program(os.path.join(work, "store"), work)


@pytest.fixture
def published(program):
    """... with three versions of one image."""
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        program.publish(version)
    return program


@pytest.fixture(scope="module")
def fleet():
    """Three guests that are off: sets need no running ones."""
    with cheap_guest.Fleet(3, f"{PREFIX}-sets", version="1.0.0") as guests:
        yield guests


@pytest.fixture
def defined(published, fleet):
    """A store with images and the set 'shop' of all three guests."""
    published("set-define", "-", stdin=published.model("shop", [guest.name for guest in fleet], upgrade_domains=2))
    return published


class Lab:
    """Guests that run 1.0.0, the program over a store with three versions, and their set, adopted."""

    def __init__(self, fleet, **policy):
        self.fleet = fleet
        self.names = [guest.name for guest in fleet]
        self.program = Program(fleet.path("store"), fleet.dir, fleet.uri)
        for version in ("1.0.0", "2.0.0", "3.0.0"):
            self.program.publish(version)
        self.set_name = fleet.prefix
        self.define(**policy)
        for name in self.names:
            self.program("adopt", self.set_name, name, "--version", "1.0.0")

    def define(self, **policy):
        model = self.program.model(self.set_name, self.names, **policy)
        self.program("set-define", "-", stdin=model)

    def status(self):
        return self.program.json("status", self.set_name)

    def versions(self):
        """What the journal says, checked against what each guest's domain names as its OS disk."""
        versions = {}
        for instance in self.status()["instances"]:
            kept = self.program.json("generations", self.set_name, instance["domain"])["generations"]
            current = [one for one in kept if one["state"] == "current"]
            guest = self.fleet[self.names.index(instance["domain"])]
            assert [one["path"] for one in current] == [guest.configured_os_disk()]
            versions[instance["domain"]] = instance["version"]
        return versions

    def all_on(self, version):
        return {name: version for name in self.names}


@pytest.fixture(scope="module", name="private")
def fixture_private():
    """A libvirtd of the module's own, that may hang or die."""
    libvirtd.give_kvm_to_its_group()
    with libvirtd.PrivateLibvirtd() as private:
        yield private


@pytest.fixture(scope="module")
def make_lab():
    """Makes labs that go with the module; keyword arguments are the set's policy."""
    fleets = []

    def make(count, name, guest=None, **policy):
        fleet = cheap_guest.Fleet(count, f"{PREFIX}-{name}", version="1.0.0", **(guest or {}))
        fleets.append(fleet)
        fleet.__enter__()
        fleet.start_all()
        return Lab(fleet, **policy)

    yield make
    for fleet in fleets:
        fleet.clean_up()
