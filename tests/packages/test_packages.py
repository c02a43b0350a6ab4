# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5: what the packages are made of."""
import subprocess


def test_lintian(debs):
    done = subprocess.run(["lintian", "--allow-root", "--tag-display-limit", "0", *[debs[name] for name in debs.names]], capture_output=True,
                          text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if line.startswith("E:")]
    assert not errors and done.returncode == 0, done.stdout + done.stderr


def test_the_program(debs):
    files = debs.contents("virt-reimage")
    for path, mode in {"/usr/bin/virt-reimage": "-rwxr-xr-x", "/usr/libexec/virt-reimage/virt-reimage-personalize": "-rwxr-xr-x",
                       "/usr/lib/sysusers.d/virt-reimage.conf": "-rw-r--r--", "/usr/lib/tmpfiles.d/virt-reimage.conf": "-rw-r--r--",
                       "/etc/virt-reimage/virt-reimage.conf": "-rw-r--r--", "/lib/systemd/system/virt-reimage@.service": "-rw-r--r--",
                       "/lib/systemd/system/virt-reimage@.timer": "-rw-r--r--"}.items():
        assert files.get(path) == mode, path
    assert not [path for path in files if path.startswith(("/var", "/run", "/usr/local", "/srv"))], "the store is none of dpkg's"
    assert "libguestfs0" in debs.field("virt-reimage", "Depends") and "qemu-utils" in debs.field("virt-reimage", "Depends")
