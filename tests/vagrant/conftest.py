# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host of the tests' own for Vagrant: a libvirtd, a storage pool, a network with DHCP, and a home; nothing of it is seen outside."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "tests"), str(TOP / "tests/lab")]

import guest  # noqa: E402
from lib import libvirtd  # noqa: E402

BINARY = os.environ.get("VIRT_REIMAGE", str(TOP / "build/dev/virt-reimage"))
LAB_DIR = os.environ.get("LAB_DIR", "/var/lib/virt-reimage-lab") + "-vagrant"


class Vagrant:
    """`vagrant` for the Vagrantfile of the lab, with a home and a state of its own."""

    def __init__(self, home, **more):
        self.env = {**os.environ, "HOME": str(home), "VAGRANT_HOME": f"{home}/vagrant.d", "VAGRANT_DOTFILE_PATH": f"{home}/dot",
                    "VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_NO_COLOR": "1", "LAB_DIR": f"{home}/lab", **more}

    def command(self, *argv):
        return ["env", "-C", str(TOP / "vagrant"), *argv]

    def run(self, *argv, status=0, timeout=300):
        """What a program that runs beside the Vagrantfile prints; both streams."""
        done = subprocess.run(self.command(*argv), env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False)
        print(done.stdout)
        assert done.returncode == status, f"{argv}: {done.returncode}"
        return done.stdout

    def vagrant(self, *arguments, **how):
        return self.run("vagrant", *arguments, **how)

    def states(self):
        """Machine -> state, as Vagrant sees them."""
        lines = [line.split(",") for line in self.vagrant("status", "--machine-readable").splitlines()]
        return {words[1]: words[3] for words in lines if len(words) > 3 and words[2] == "state"}


class Host(Vagrant):
    """The same on the private host, where the lab and virt-reimage run too."""

    def __init__(self, home, private, names):
        super().__init__(home, LAB_DIR=LAB_DIR, LAB_NAME=names[0].rsplit("-", 1)[0], LAB_GUESTS=str(len(names)), VIRT_REIMAGE=BINARY)
        self.private, self.names, self.store = private, names, f"{LAB_DIR}/store"

    def command(self, *argv):
        return self.private.command(*argv, directory=str(TOP / "vagrant"))

    def box(self):
        """Outside, where there are Debian mirrors."""
        subprocess.run([TOP / "vagrant/lab", "box"], env=self.env, stdin=subprocess.DEVNULL, check=True)

    def lab(self, *arguments, **how):
        return self.run("./lab", *arguments, **how)

    def reimage(self, *arguments, **how):
        return self.run(BINARY, "--root", self.store, *arguments, **how)

    def in_guest(self, name, script):
        return self.vagrant("ssh", name, "-c", script)

    def volumes(self):
        """Of the pool that Vagrant made."""
        lines = self.run("virsh", "-q", "vol-list", "default").splitlines()
        return {line.split()[0] for line in lines if line.strip()}


@pytest.fixture
def vagrant(tmp_path):
    if shutil.which("vagrant") is None:
        pytest.skip("vagrant is not installed; 'packaging/deps vagrant' installs it")
    return Vagrant(tmp_path)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A private host for the guests vg-0 and vg-1, without them."""
    if os.environ.get("VR_FULL") != "1":
        pytest.skip("minutes of real guests: VR_FULL=1")
    with libvirtd.PrivateLibvirtd(network=True) as private:
        guest.URI = private.uri
        made = Host(tmp_path_factory.mktemp("home"), private, ["vg-0", "vg-1"])
        shutil.rmtree(LAB_DIR, ignore_errors=True)
        yield made
    shutil.rmtree(LAB_DIR, ignore_errors=True)
