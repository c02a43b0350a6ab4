# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian packages: built as a user builds them, and installed on hosts to throw away."""
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from packaged import Host  # noqa: E402  (after the path)
from shop import open_shop  # noqa: E402

OLDER = "0.0.9"
SCRATCH = "VR_PACKAGES_SCRATCH"


class Debs:
    """Packages of one version in one directory, by name."""

    def __init__(self, directory):
        self.dir = directory
        self.files = {name.split("_")[0]: os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name.endswith(".deb")}
        self.names = [name for name in self.files if not name.endswith("-dbgsym")]

    def __getitem__(self, name):
        return self.files[name]

    def field(self, name, field):
        return subprocess.run(["dpkg-deb", "-f", self[name], field], check=True, capture_output=True, text=True).stdout.strip()

    def contents(self, name):
        """Path: mode, as ls spells it."""
        lines = subprocess.run(["dpkg-deb", "-c", self[name]], check=True, capture_output=True, text=True).stdout.splitlines()
        words = [line.split(None, 5) for line in lines]
        assert all(word[1] == "root/root" for word in words)
        return {word[5].split(" -> ")[0].lstrip("."): word[0] for word in words}


def pytest_configure(config):
    """One directory for all workers, of the process that starts them: the packages are built once."""
    if SCRATCH not in os.environ:
        base = "/dev/shm" if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 2_000_000_000 else None
        os.environ[SCRATCH] = config.packages_scratch = tempfile.mkdtemp(prefix="virt-reimage-packages-", dir=base)


def pytest_unconfigure(config):
    if hasattr(config, "packages_scratch"):
        shutil.rmtree(config.packages_scratch)
        del os.environ[SCRATCH]


@pytest.fixture(scope="session")
def scratch():
    return os.environ[SCRATCH]


def export_source(directory):
    """What would be committed, as it is now."""
    git = ["git", "-C", TOP, "-c", f"safe.directory={TOP}"]
    names = subprocess.run([*git, "ls-files", "-z", "-co", "--exclude-standard"], check=True, capture_output=True).stdout
    there = b"\0".join(name for name in names.split(b"\0") if name and os.path.lexists(os.path.join(TOP.encode(), name)))
    os.makedirs(directory)
    pack = subprocess.run(["tar", "-c", "-C", TOP, "--null", "-T", "-"], input=there, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", directory], input=pack.stdout, check=True)


def build(source):
    environment = {name: value for name, value in os.environ.items() if not re.match("CC|CFLAGS|CMAKE_|LDFLAGS|DEB_", name)}
    environment |= {"DEB_BUILD_OPTIONS": f"nocheck noautodbgsym parallel={os.cpu_count()}", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["dpkg-buildpackage", "-us", "-uc", "-b"], cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.fixture(scope="session")
def debs(scratch):
    """Built from a clean export, as dpkg-buildpackage does it for anybody. VR_DEBS=DIR: those, for who works on these tests."""
    if "VR_DEBS" in os.environ:
        return Debs(os.environ["VR_DEBS"])
    with open(os.path.join(scratch, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = os.path.join(scratch, "built", "done")
        if not os.path.exists(done):
            shutil.rmtree(os.path.dirname(done), ignore_errors=True)  # of one who could not
            export_source(os.path.join(scratch, "built", "source"))
            build(os.path.join(scratch, "built", "source"))
            shutil.rmtree(os.path.join(scratch, "built", "source"))
            os.mkdir(done)
    return Debs(os.path.dirname(done))


@pytest.fixture(scope="session")
def older(debs, scratch):
    """The same with a lower version number."""
    directory = tempfile.mkdtemp(prefix="older-", dir=scratch)
    for name in debs.names:
        tree = os.path.join(directory, f"tree-{name}")
        subprocess.run(["dpkg-deb", "-R", debs[name], tree], check=True)
        with open(f"{tree}/DEBIAN/control", encoding="utf-8") as file:
            control = file.read()
        version = debs.field(name, "Version")
        control = control.replace(f"\nVersion: {version}\n", f"\nVersion: {OLDER}\n").replace(f"(= {version})", f"(= {OLDER})")
        with open(f"{tree}/DEBIAN/control", "w", encoding="utf-8") as file:
            file.write(control)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, f"{directory}/{name}_{OLDER}_all.deb"], check=True,
                       capture_output=True)
    return Debs(directory)


@pytest.fixture
def host():
    """One without systemd, and with libvirt."""
    with Host() as one:
        one.start_libvirt()
        yield one


@pytest.fixture
def booted():
    """One with systemd as its process 1."""
    with Host(systemd=True) as one:
        yield one


@pytest.fixture
def shop(booted, debs):
    """A set on it: its guests run 1.0.0, and 2.0.0 is there for them."""
    return open_shop(booted, debs)
