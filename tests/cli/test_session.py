# SPDX-License-Identifier: LGPL-2.1-or-later
"""K1: qemu:///session: a user without privileges, his own guest, his own store; swap, rollback, recovery, and a daemon that is not there yet."""
import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from lib import cheap_guest
from program import BINARY, DONE

NOBODY = 65534
URI = "qemu:///session"
NAME = "mine"


def wait_gone(pid, timeout=10):
    cheap_guest.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), timeout, f"{pid} is gone")


class User:
    """Somebody with a home of his own, and nothing else; below /tmp, as the paths of sockets are short."""

    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="vrs-", dir="/tmp")
        self.environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": self.home,
                            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}
        for variable, name in (("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "c"), ("XDG_RUNTIME_DIR", "r"), ("XDG_CACHE_HOME", "k")):
            self.environment[variable] = self.path(name)
            os.mkdir(self.path(name), 0o700)
        self.binary = shutil.copy(BINARY, self.path("virt-reimage"))
        self.own()

    def path(self, name):
        return os.path.join(self.home, name)

    def own(self):
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", self.home], check=True)

    def start(self, *command):
        return subprocess.Popen(command, env=self.environment, user=NOBODY, group=NOBODY, extra_groups=[], cwd=self.home,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *command, stdin=""):
        process = self.start(*command)
        out, err = process.communicate(stdin, timeout=120)
        return process.returncode, out, err

    def virsh(self, *words):
        status, out, err = self.run("virsh", "-c", URI, *words)
        assert status == 0, (words, err)
        return out

    def reimage(self, *words, status=DONE, stdin=""):
        got, out, err = self.run(self.binary, "-c", URI, *words, stdin=stdin)
        assert got == status and "Sanitizer" not in err, (words, got, out, err)
        return out + err

    def pids(self, pattern):
        found = []
        for path in glob.glob(self.path(pattern)):
            with open(path, encoding="ascii") as file:
                found.append(int(file.read()))
        return found

    def stop_daemons(self):
        for pid in self.pids("r/libvirt/*.pid"):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
            wait_gone(pid)

    def clean_up(self):
        self.run("virsh", "-c", URI, "destroy", NAME)
        self.run("virsh", "-c", URI, "undefine", NAME)
        self.stop_daemons()
        shutil.rmtree(self.home)


@pytest.fixture(scope="module", name="user")
def fixture_user():
    made = User()
    try:
        set_up(made)
        yield made
    finally:
        made.clean_up()


def set_up(user):
    disk = cheap_guest.write_os_disk(user.path("os.qcow2"), "1.0.0", "qcow2")
    data = cheap_guest.write_data_disk(user.path("data.raw"))
    with open(user.path("domain.xml"), "w", encoding="utf-8") as file:
        file.write(cheap_guest.domain_xml(NAME, disk, data=[(data, "raw", "DATA01")], console=user.path("console")))
    for version in ("1.0.0", "2.0.0"):
        cheap_guest.write_os_disk(user.path(f"{version}.qcow2"), version, "qcow2")
    user.own()
    user.virsh("define", user.path("domain.xml"))
    user.virsh("start", NAME)
    for version in ("1.0.0", "2.0.0"):
        user.reimage("image-publish", "cheap", version, user.path(f"{version}.qcow2"))
    user.reimage("set-define", "-", stdin=(
        f"name: {NAME}\nimageReference: {{name: cheap}}\n"
        "upgradePolicy: {rollingUpgradePolicy: {maxBatchInstancePercent: 100, maxUnhealthyInstancePercent: 100}}\n"
        "healthProfile: {healthTimeout: PT20S}\nosDisk: {target: vda}\nstop: {method: acpi, timeout: PT20S}\n"
        f"instances:\n- {{domain: {NAME}}}\n"))
    user.reimage("adopt", NAME, NAME, "--version", "1.0.0")


def booted(user):
    with open(user.path("console"), encoding="utf-8") as log:
        return [line.split()[-1] for line in log.read().splitlines() if "version" in line]


def test_upgrade_and_rollback(user):
    assert os.path.exists(user.path("data/virt-reimage/state.db"))
    assert "1 successful" in user.reimage("upgrade", NAME)
    view = user.reimage("instance-view", NAME, NAME)
    assert "cheap 2.0.0 (generation 1)" in view and "1 untouched: vdb" in view
    user.reimage("rollback", NAME, NAME)
    assert booted(user) == ["1.0.0", "2.0.0", "1.0.0"]
    assert user.path("os.qcow2") in user.virsh("domblklist", NAME)
    assert oct(os.stat(glob.glob(user.path("data/virt-reimage/disks/*/g1.qcow2"))[0]).st_mode & 0o777) == "0o400"


def test_doctor_says_whose_guests_are_meant(user):
    """With a URI and, as libvirt chooses it then, without one."""
    for words in ((), ("-c", URI)):
        status, out, err = user.run(user.binary, *words, "doctor")
        assert status == DONE, (out, err)
        lines = dict(line.split(None, 2)[1:] for line in out.splitlines())
        assert lines["user"].startswith("nobody, for guests of your own (qemu:///session)") and lines["path"] == "QEMU runs as you"


def test_killed_and_recovered(user):
    run = user.start(user.binary, "-c", URI, "upgrade", NAME, "--version", "2.0.0")
    for line in run.stdout:
        if "swapping" in line:
            break
    run.kill()
    run.communicate()
    assert "recovered: " in user.reimage("recover", NAME)
    assert "open swap" not in user.reimage("status", NAME)


def test_a_daemon_that_the_run_has_started_is_free(user):
    """libvirt's client starts it, from a process that cannot write to data disks; QEMU below it can."""
    user.virsh("destroy", NAME)
    user.stop_daemons()
    user.reimage("reimage", NAME, NAME, "--version", "2.0.0")
    assert user.pids("r/libvirt/libvirtd.pid")
    user.virsh("start", NAME)
    pid, = user.pids(f"r/libvirt/qemu/run/{NAME}.pid")
    opened = {os.readlink(path): path for path in glob.glob(f"/proc/{pid}/fd/*") if os.path.islink(path)}
    number = os.path.basename(opened[user.path("data.raw")])
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as info:
        flags = int(next(line for line in info if line.startswith("flags:")).split()[1], 8)
    assert flags & os.O_ACCMODE == os.O_RDWR
    deadline = time.monotonic() + 20
    while booted(user)[-1] != "2.0.0" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert booted(user)[-1] == "2.0.0"
