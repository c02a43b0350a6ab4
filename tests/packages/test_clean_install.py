# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5: what the packages ask for is all that they need."""
import glob
import os
import subprocess

import pytest

full = pytest.mark.skipif(os.environ.get("VR_FULL") != "1", reason="downloads and installs 400 packages: VR_FULL=1")


def sources():
    """The Debian repositories of this host, for mmdebstrap's standard input."""
    text = ""
    for path in ["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*")]:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                one = file.read()
            text += one.rstrip("\n") + "\n\n" if "debian.org" in one else ""
    return text


@full
def test_on_a_minimal_debian(debs, scratch):
    """Dependencies are installed by apt, nothing recommended, and the programs run."""
    tree = os.path.join(scratch, "minimal")
    files = [debs[name] for name in debs.names]
    carry = [f"--setup-hook=mkdir -p \"$1{os.path.dirname(file)}\" && cp {file} \"$1{file}\"" for file in files]
    done = subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--dpkgopt=force-unsafe-io",
                           *carry, *[f"--include={file}" for file in files],
                           "bookworm", tree, "-"], input=sources(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]

    def run(*words):
        return subprocess.run(["chroot", tree, *words], capture_output=True, text=True, check=False)
    version = debs.field("virt-reimage", "Version")
    assert run("virt-reimage", "--version").stdout.split()[-1] == version
    assert run("virt-reimaged", "--version").stdout.split()[-1] == version
    for program in ("virt-reimage", "libexec/virt-reimage/virt-reimage-personalize", "libexec/virt-reimage/virt-reimage-job"):
        path = program if "/" in program else f"bin/{program}"
        assert "not found" not in run("ldd", f"/usr/{path}").stdout
    for tool in ("qemu-img", "qemu-nbd", "supermin", "xorriso", "systemd-analyze", "mtype", "mkfs.ext4", "mkfs.vfat"):
        assert run("sh", "-c", f"command -v {tool}").returncode == 0, tool
    assert run("getent", "group", "virt-reimage").returncode == 0
    assert run("dpkg", "--purge", "virt-reimaged", "virt-reimage").returncode == 0
    assert not os.path.exists(f"{tree}/etc/virt-reimage")
