# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-reimage is killed at points of real swaps of a real guest (tests/fault/points.h). B17, B5, invariants 8-11, 13, 14, 16.

Each cut is one call that changes a file, the journal or the domain, and it does not happen any more. VR_FULL=1: 60 cuts that fired; else a handful.
VR_KILL_SEED repeats the choice.
"""
import os
import random
import signal
import subprocess
import sys
import time

import pytest

sys.path[:0] = [os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), part) for part in ("", "cli", "fault")]

from lib import cheap_guest, libvirtd  # noqa: E402
from program import BINARY  # noqa: E402
from test_soak import RemoteProgram, digest, holders, live_os_disk  # noqa: E402

CUTS = 60 if os.environ.get("VR_FULL") == "1" else 5
SEED = int(os.environ.get("VR_KILL_SEED", str(time.time_ns() % 1000000)))
POINTS = os.environ.get("VR_POINTS", os.path.join(os.path.dirname(BINARY), "tests", "libpoints.so"))
VERSIONS = ("2.0.0", "3.0.0")
SET = "cut"
# A disk that a define may name that lands late is not sealed, until a later swap's define was answered: libvirt does them in order.
KEPT = ("SELECT path, state, ours, EXISTS (SELECT 1 FROM swaps JOIN steps ON swap_id = id WHERE swaps.uuid = generations.uuid AND "
        "to_number = number AND name = 'may-land' AND NOT EXISTS (SELECT 1 FROM swaps later WHERE later.uuid = swaps.uuid AND "
        "later.seq > swaps.seq AND later.reached >= 3)) FROM generations WHERE uuid = '{uuid}' AND state IN (1, 2, 3)")
OPEN = "SELECT COUNT(*) FROM swaps WHERE state NOT IN (5, 6, 7)"


class World:
    """A libvirtd of its own, one guest, and the program with the library of points before it."""

    def __init__(self, private, fleet):
        self.fleet, self.guest = fleet, fleet[0]
        self.program = RemoteProgram(fleet.path("store"), fleet.dir, private.uri)
        self.data = {path: digest(path) for path, _, _ in self.guest.data}
        for version in ("1.0.0", *VERSIONS):
            self.program.publish(version)
        self.program("set-define", "-", stdin=self.program.model(SET, [self.guest.name]))
        self.program("adopt", SET, self.guest.name, "--version", "1.0.0")

    def with_points(self, command, **settings):
        """Status, the place of the cut or None."""
        environment = {**os.environ, "LD_PRELOAD": POINTS, **settings}
        environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        done = subprocess.run(self.program.command(*command), env=environment, capture_output=True, text=True, timeout=300)
        assert "Sanitizer" not in done.stderr, done.stderr
        at = [line for line in done.stderr.splitlines() if line.startswith("killed at point ")]
        return done.returncode, at[0] if at else None

    def count(self, command):
        """How many points it has when nothing cuts it; it happens."""
        path = os.path.join(self.program.root, "points")  # Landlock lets it write nowhere else
        status, _ = self.with_points(command, VR_POINTS_AT="0", VR_POINTS_COUNT=path)
        assert status == 0, command
        with open(path, encoding="ascii") as file:
            count = int(file.read())
        os.unlink(path)
        return count

    def version(self):
        return self.program.json("status", SET)["instances"][0]["version"]

    def upgrade(self):
        """To the version that it does not run."""
        return ["upgrade", SET, "--version", VERSIONS[self.version() == VERSIONS[0]]]

    def rollback(self):
        return ["rollback", SET, self.guest.name]

    def query(self, sql):
        # the program is gone, and nobody else writes
        done = subprocess.run(["sqlite3", "-readonly", f"{self.program.root}/state.db", sql], check=True, capture_output=True, text=True)
        return [line.split("|") for line in done.stdout.splitlines()]

    def settle(self, told):
        for _ in range(3):
            out = self.program.run("recover", SET)
            if self.query(OPEN) == [["0"]]:
                break
        assert self.query(OPEN) == [["0"]], (told, out.err)
        before = self.program.snapshot()
        assert "nothing is open" in self.program("recover", SET).out
        assert self.program.snapshot() == before, told

    def check(self, told):
        rows = self.query(KEPT.format(uuid=self.guest.uuid))
        current = [path for path, state, _, _ in rows if state == "1"] or [self.guest.os_disk]
        assert self.guest.is_running(), told
        assert current == [self.guest.configured_os_disk()] == [live_os_disk(self.guest)], told
        assert len(holders(current[0])) == 1, told
        for path, state, ours, may_land in rows:
            assert os.path.exists(path), (told, path)
            if state != "1":
                assert not holders(path), (told, path)
                assert ours == "0" or os.stat(path).st_mode & 0o777 == (0o600 if may_land == "1" else 0o400), (told, path)
        for path, before in self.data.items():
            assert digest(path) == before, (told, path)
        left = [name for _, folders, files in os.walk(self.program.root) for name in [*folders, *files] if name.startswith(".tmp-")]
        assert not left, (told, left)


@pytest.fixture(name="world")
def fixture_world():
    with libvirtd.PrivateLibvirtd() as private:
        with cheap_guest.Fleet(1, "kill", version="1.0.0", uri=private.uri, start=True) as fleet:
            yield World(private, fleet)


def test_killed_at_a_point(world):
    random.seed(SEED)
    print(f"seed {SEED}")
    points = {world.upgrade: world.count(world.upgrade()), world.rollback: 0}
    points[world.rollback] = world.count(world.rollback())
    world.check("uncut")
    fired = planned = 0
    while fired < CUTS:
        act = world.rollback if planned % 3 == 2 else world.upgrade
        at = random.randint(1, points[act])
        command = act()
        planned += 1
        status, where = world.with_points(command, VR_POINTS_AT=str(at))
        told = f"{' '.join(command)}: {where or f'not reached: {at}'}"
        print(told, flush=True)
        assert status == (-signal.SIGKILL if where else 0), (status, told)
        fired += where is not None
        world.settle(told)
        world.check(told)
        if world.version() not in VERSIONS:
            world.program(*world.upgrade())
    print(f"{planned} cuts planned on a real guest, {fired} fired, 0 violations")
