# SPDX-License-Identifier: LGPL-2.1-or-later
"""The labs of the acceptance tests: real Linux guests under a store of their own, made and removed by vagrant/lab."""

import fcntl
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
sys.path[:0] = [str(HERE), str(TOP / "tests"), str(TOP / "tests/cli")]

from guest import Guest, file_facts, wait_for  # noqa: E402
from lib import cheap_guest, libvirtd, schemas  # noqa: E402
from proof import facts_of  # noqa: E402

BINARY = os.environ.get("VIRT_REIMAGE", str(TOP / "build/dev/virt-reimage"))
LABS = os.environ.get("LAB_DIR", "/var/lib/virt-reimage-lab")


class Lab:
    """What the tests do to it: commands, guests, and a look at the journal."""

    # healthTimeout: ten other guests may boot on the same two cores, and nothing waits for it to pass; for a version that is never healthy
    AMPLE, SHORT = "PT3M", "PT30S"

    def __init__(self, name, count):
        self.dir = Path(f"{LABS}-{name}")
        self.root = self.dir / "store"
        self.names = [f"{name}-{i}" for i in range(count)]
        self.env = {**os.environ, "LAB_DIR": str(self.dir), "LAB_NAME": name, "LAB_GUESTS": str(count), "VIRT_REIMAGE": BINARY}

    def script(self, *arguments):
        subprocess.run([str(TOP / "vagrant/lab"), *arguments], env=self.env, check=True, stdin=subprocess.DEVNULL)

    def command(self, *arguments):
        return [BINARY, "--root", str(self.root), *arguments]

    def run(self, *arguments, status=0):
        done = subprocess.run(self.command(*arguments), env=self.env, capture_output=True, text=True, timeout=600)
        print(done.stdout, done.stderr, sep="\n")
        assert done.returncode == status, f"{arguments}: {done.returncode}: {done.stderr}"
        return done

    def set_health_timeout(self, duration):
        model = self.dir / "lab.yaml"
        model.write_text(re.sub(r"healthTimeout: \S+", f"healthTimeout: {duration}", model.read_text()))
        self.run("set-define", str(model))

    def json(self, *arguments):
        text = self.run("--json", *arguments).stdout
        schemas.check_output(["--json", *arguments], text)
        return json.loads(text)

    def start(self, *arguments):
        return subprocess.Popen(self.command(*arguments), env=self.env, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def guest(self, name):
        return Guest(name)

    def settle(self):
        """Until every guest reports Healthy: one that was put back may still be booting."""
        for name in self.names:
            wait_for(name)

    def facts(self):
        return facts_of(self.names)

    def versions(self):
        return {name: Guest(name).inside()["version"] for name in self.names}

    def query(self, sql, *values):
        with sqlite3.connect(f"file:{self.root}/state.db?mode=ro", uri=True, timeout=10) as db:
            return db.execute(sql, values).fetchall()

    def step_names(self, name):
        """The steps of the last swap of a guest."""
        uuid = self.uuid(name)
        return [row[0] for row in self.query(
            "SELECT name FROM steps WHERE swap_id = (SELECT id FROM swaps WHERE uuid = ? ORDER BY seq DESC LIMIT 1) "
            "ORDER BY seq", uuid)]

    def uuid(self, name):
        return self.query("SELECT uuid FROM instances WHERE domain = ?", name)[0][0]

    def swaps(self):
        return self.query("SELECT COUNT(*) FROM swaps")[0][0]

    def open_swaps(self):
        return self.query("SELECT COUNT(*) FROM swaps WHERE state NOT IN (5, 6, 7)")[0][0]

    def wait_for_step(self, process, name, step, swaps_before, timeout=90):
        """Until a new swap of this guest has the step."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert process.poll() is None, f"it ended early: {process.stdout.read()}"
            if self.swaps() > swaps_before and step in self.step_names(name):
                return
            time.sleep(0.02)
        raise AssertionError(f"{name} did not come to {step}")

    def interrupt(self, process):
        process.send_signal(signal.SIGINT)

    def end(self, process, timeout=240):
        output, _ = process.communicate(timeout=timeout)
        print(output)
        return process.returncode

    def os_disk(self, name):
        return Guest(name).disks(inactive=True)["vda"]

    def first_disk(self, name):
        return str(self.dir / "guests" / name / "os.qcow2")

    def disk_facts(self, path):
        return file_facts(path)


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the mark
def pytest_collection_modifyitems(items):
    """All tests of a lab run in one process, one after the other (--dist loadgroup), and so do those that make guests of their own."""
    for item in items:
        group = "ten" if "ten" in item.fixturenames else "five" if "lab" in item.fixturenames else "own"
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def sweep():
    """Removes the guests that a killed test left under a prefix.  libvirtd runs, and no other run of these tests on this host is at it."""
    libvirtd.ensure()
    with open("/run/virt-reimage-test-lab.lock", "w", encoding="ascii") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield cheap_guest.sweep


@pytest.fixture(scope="session")
def lab():
    """Five guests in one set without labels."""
    made = Lab("test", 5)
    made.script("destroy")
    made.script("up")
    made.set_health_timeout(made.AMPLE)
    yield made
    made.script("destroy")


@pytest.fixture(scope="module")
def ten():
    """Ten, under a set that the module defines: a lab of their own, so that it may run beside the other."""
    made = Lab("ten", 10)
    made.script("destroy")
    made.script("up")
    made.settle()
    yield made
    made.script("destroy")
