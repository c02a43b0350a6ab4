# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real swaps of real guests, again and again, while virt-reimage, libvirtd and QEMU are killed at random. B17, invariants 8-11, 13, 14, 16.

The guests are under a libvirtd of the test's own, which may die. After each round: what is open is recovered in at most three runs, each guest is
configured with the disk that the journal calls current, runs from no other, and its data disk has the bytes that it began with.
VR_FULL=1: 300 swaps; else a dozen. VR_SOAK_SEED repeats a run, as far as the moments of the kills can be repeated.
"""
import hashlib
import os
import random
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import libvirt
import pytest

sys.path[:0] = [os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), part) for part in ("", "cli")]

from lib import cheap_guest, libvirtd  # noqa: E402
from program import Program  # noqa: E402

GUESTS = 4
SWAPS = 300 if os.environ.get("VR_FULL") == "1" else 12
SEED = int(os.environ.get("VR_SOAK_SEED", str(time.time_ns() % 1000000)))
ENDS = set(range(8))  # the exit statuses of DESIGN
RECOVER_S = 400  # at the most, of guests whose lock libvirt holds for ever
# A switch whose end nobody heard: its disk is not sealed before the host is rebooted (docs/recovery.md).
MAY_LAND = ("SELECT 1 FROM steps JOIN swaps ON swap_id = swaps.id WHERE steps.name = 'may-land' "
            "AND swaps.uuid = generations.uuid AND to_number = number AND generations.state = 3")
OPEN = "SELECT COUNT(*) FROM swaps WHERE state NOT IN (5, 6, 7)"


class RemoteProgram(Program):
    """The program on a libvirtd of the test's own."""

    def __init__(self, root, work, uri):
        super().__init__(root, work)
        self.uri = uri

    def command(self, *arguments):
        binary, *rest = super().command(*arguments)
        return [binary, "-c", self.uri, *rest]


class World:
    """A libvirtd, its guests, the program over their store, and what is killed."""

    def __init__(self, private, fleet):
        self.private, self.fleet = private, fleet
        self.program = RemoteProgram(fleet.path("store"), fleet.dir, private.uri)
        self.names = [guest.name for guest in fleet]
        self.data = {path: digest(path) for guest in fleet for path, _, _ in guest.data}
        self.kills = {"program": 0, "qemu": 0, "libvirtd": 0}
        for version in ("1.0.0", "2.0.0", "3.0.0"):
            self.program.publish(version)
        self.program("set-define", "-", stdin=self.program.model("soak", self.names))
        for name in self.names:
            self.program("adopt", "soak", name, "--version", "1.0.0")

    def query(self, sql):
        with sqlite3.connect(f"file:{self.program.root}/state.db?mode=ro", uri=True, timeout=10) as database:
            return database.execute(sql).fetchall()

    # --- what is killed --------------------------------------------------------------------------------

    def kill_program(self, run):
        if run.poll() is None:
            run.kill()
            self.kills["program"] += 1

    def run_of(self, guest):
        """libvirt's number of the QEMU that runs it, asked anew; -1: it is off."""
        return self.fleet.connection.lookupByUUIDString(guest.uuid).ID()

    def kill_qemu(self, run):
        self.fleet.reconnect()
        guest = random.choice(self.fleet.guests)
        was = self.run_of(guest)
        for pid in holders(guest.data[0][0]):
            os.kill(pid, signal.SIGKILL)
            self.kills["qemu"] += 1
            cheap_guest.wait_for(lambda: was < 0 or self.run_of(guest) != was, 20, f"libvirt sees that {guest.name} is gone")

    def kill_libvirtd(self, run):
        self.private.crash()
        time.sleep(random.uniform(0, 2))
        self.private.restart()
        self.kills["libvirtd"] += 1

    # --- a round ---------------------------------------------------------------------------------------

    def command(self):
        return random.choice([["upgrade", "soak", "--version", random.choice(("2.0.0", "3.0.0"))],
                              ["upgrade", "soak", "--version", random.choice(("2.0.0", "3.0.0")), "--no-auto-rollback"],
                              ["reimage", "soak", "--all"],
                              ["rollback", "soak", random.choice(self.names)]])

    def round(self):
        command = self.command()
        blows = random.sample([self.kill_program, self.kill_qemu, self.kill_libvirtd], random.choice((0, 1, 1, 1, 2)))
        moments = sorted(random.uniform(0, 7) for _ in blows)
        told = f"{' '.join(command)}; " + ", ".join(f"{blow.__name__} at {at:.2f} s" for blow, at in zip(blows, moments))
        begun = time.monotonic()
        run = self.program.start(*command)
        reader = threading.Thread(target=run.communicate)
        reader.start()
        for blow, at in zip(blows, moments):
            time.sleep(max(0, begun + at - time.monotonic()))
            blow(run)
        reader.join(timeout=RECOVER_S)
        assert run.returncode is not None, f"it hangs: {told}"
        assert run.returncode in ENDS or (run.returncode == -signal.SIGKILL and self.kill_program in blows), (run.returncode, told)
        return told

    def settle(self, told):
        """At most three recoveries, and then nothing is open. What was killed is started by the admin, as ever."""
        self.fleet.reconnect()
        for _ in range(3):
            out = self.program.run("recover", "soak", timeout=RECOVER_S)
            assert out.status in ENDS and "Sanitizer" not in out.err, (told, out.err)
            self.free_half_started(out.err)
            if self.query(OPEN) == [(0,)]:
                break
        assert self.query(OPEN) == [(0,)], (told, out.err)
        for guest in self.fleet:
            if not guest.is_running():
                guest.start()

    def free_half_started(self, err):
        """What the program says to do for guests that libvirtd was about to start when it was killed (tests/cli/test_half_started.py)."""
        records = set(re.findall(r"'rm (/run/libvirt/qemu/[^']*)'", err))
        if records:
            self.private.crash()
            self.private.in_its_namespace("rm " + " ".join(records))
            self.private.restart()
            self.fleet.reconnect()

    def check(self, told):
        for guest in self.fleet:
            rows = self.query(f"SELECT path, state, ours, EXISTS ({MAY_LAND}) FROM generations JOIN instances USING (uuid) "
                              f"WHERE domain = '{guest.name}' AND state IN (1, 2, 3)")
            current = [path for path, state, _, _ in rows if state == 1] or [guest.os_disk]
            assert current == [guest.configured_os_disk()] == [live_os_disk(guest)], told
            assert len(holders(current[0])) == 1, (told, guest.name, holders(current[0]))
            for path, state, ours, may_land in rows:
                assert os.path.exists(path), (told, path)
                if state != 1:
                    assert not holders(path), (told, path)
                    assert not ours or may_land or stat.S_IMODE(os.stat(path).st_mode) == 0o400, (told, path)
        for path, before in self.data.items():
            assert digest(path) == before, (told, path)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def holders(path):
    """The QEMU processes that have the file open."""
    seen = os.stat(path)
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if not os.readlink(f"/proc/{pid}/exe").startswith("/usr/bin/qemu-system"):
                continue
            for fd in os.listdir(f"/proc/{pid}/fd"):
                one = os.stat(f"/proc/{pid}/fd/{fd}")
                if (one.st_dev, one.st_ino) == (seen.st_dev, seen.st_ino):
                    found.append(int(pid))
                    break
        except OSError:
            continue
    return found


def live_os_disk(guest):
    root = cheap_guest.ElementTree.fromstring(guest.domain.XMLDesc(0))
    return next(disk.find("source").get("file") for disk in root.iter("disk") if disk.find("target").get("dev") == "vda")


@pytest.fixture(name="world")
def fixture_world():
    random.seed(SEED)
    with libvirtd.PrivateLibvirtd() as private:
        with cheap_guest.Fleet(GUESTS, "soak", version="1.0.0", uri=private.uri, start=True) as fleet:
            yield World(private, fleet)


def test_soak(world):
    rounds = 0
    print(f"seed {SEED}")
    while (swaps := world.query("SELECT COUNT(*) FROM swaps")[0][0]) < SWAPS or 0 in world.kills.values():
        told = world.round()
        print(f"{swaps} swaps: {told}", flush=True)
        world.settle(told)
        world.check(told)
        rounds += 1
    ends = dict(world.query("SELECT state, COUNT(*) FROM swaps GROUP BY state"))
    print(f"{swaps} swaps in {rounds} rounds: {ends.get(5, 0)} committed, {ends.get(6, 0)} discarded, {ends.get(7, 0)} undone; killed: {world.kills}")
    assert ends.get(5, 0) > swaps // 10, "all of it came to nothing"
