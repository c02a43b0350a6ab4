# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5: what the packages are made of."""
import re
import subprocess

from conftest import TOP

# What is run on the host, and of which package; what Debian calls essential is not named.
TOOLS = {"qemu-img": "qemu-utils", "qemu-io": "qemu-utils", "qemu-nbd": "qemu-utils", "supermin": "supermin", "xorrisofs": "xorriso", "mdir": "mtools",
         "mtype": "mtools", "mkfs.ext2": "e2fsprogs", "mkfs.ext3": "e2fsprogs", "mkfs.ext4": "e2fsprogs", "mkfs.vfat": "dosfstools",
         "mkfs.xfs": "xfsprogs", "mkfs.btrfs": "btrfs-progs", "systemctl": "systemd", "systemd-analyze": "systemd"}
ESSENTIAL = {"diff", "env", "unshare"}
ELSEWHERE = {"curl", "qemu-system-x86_64"}  # in guests; libvirt's own, which 'doctor' tries


def test_lintian(debs):
    done = subprocess.run(["lintian", "--allow-root", "--tag-display-limit", "0", *[debs[name] for name in debs.names]], capture_output=True,
                          text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))]
    assert not errors and done.returncode == 0, done.stdout + done.stderr


def test_the_program(debs):
    files = debs.contents("virt-reimage")
    for path, mode in {"/usr/bin/virt-reimage": "-rwxr-xr-x", "/usr/libexec/virt-reimage/virt-reimage-personalize": "-rwxr-xr-x",
                       "/usr/lib/sysusers.d/virt-reimage.conf": "-rw-r--r--", "/usr/lib/tmpfiles.d/virt-reimage.conf": "-rw-r--r--",
                       "/etc/virt-reimage/virt-reimage.conf": "-rw-r--r--", "/lib/systemd/system/virt-reimage@.service": "-rw-r--r--",
                       "/lib/systemd/system/virt-reimage@.timer": "-rw-r--r--"}.items():
        assert files.get(path) == mode, path
    for path in ("bash-completion/completions/virt-reimage", "man/man1/virt-reimage.1.gz", "man/man5/virt-reimage.conf.5.gz",
                 "man/man5/virt-reimage-set.5.gz", "doc/virt-reimage/examples/virt-reimage.json",
                 "doc/virt-reimage/examples/virt-reimage.rules.yml", "virt-reimage/schemas/status.schema.json",
                 "virt-reimage/schemas/common.schema.json", "doc/virt-reimage/schemas", "doc/virt-reimage/guides/quick-start.md"):
        assert f"/usr/share/{path}" in files or f"/usr/share/{path}.gz" in files, path
    assert not [path for path in files if path.startswith(("/var", "/run", "/usr/local", "/srv"))], "the store is none of dpkg's"
    assert "libguestfs0" in debs.field("virt-reimage", "Depends")
    for path in re.findall(r"\]\((\w[\w.-]+)", "".join(read(f"docs/{name}.md") for name in ("daemon", "http", "json", "notices"))):
        assert {f"/usr/share/doc/virt-reimage/{path}", f"/usr/share/doc/virt-reimage/{path}.gz"} & set(files), f"{path}: a page names it"


def read(path):
    with open(f"{TOP}/{path}", encoding="utf-8") as file:
        return file.read()


def test_what_it_runs_is_asked_for(debs):
    """By name, and not by what another package happens to ask for."""
    names = subprocess.run(["git", "-C", TOP, "-c", f"safe.directory={TOP}", "ls-files", "*.c", ":!tests", ":!orchestrator/daemon"], check=True,
                           capture_output=True, text=True).stdout.split()
    text = "".join(map(read, names))
    assert set(re.findall(r'argv\[\] = \{"([\w.-]+)"', text)) <= set(TOOLS) | ESSENTIAL | ELSEWHERE, "a new one: which package is it of?"
    asked = ", ".join(debs.field("virt-reimage", field) for field in ("Depends", "Suggests"))
    packages = {word.split()[0] for word in re.split("[,|]", asked)}
    for tool, package in TOOLS.items():
        assert f'"{tool}"' in text, f"{tool} is not run any more"
        assert package in packages, f"{tool} is of {package}"


def test_the_daemon(debs):
    files = debs.contents("virt-reimaged")
    units = ["virt-reimaged.service", "virt-reimage-job@.service", "virt-reimage.socket", "virt-reimage-ro.socket", "virt-reimage-job.socket"]
    assert {path for path in files if path.startswith("/lib/systemd/system/v")} == {f"/lib/systemd/system/{unit}" for unit in units}
    assert files["/usr/sbin/virt-reimaged"] == files["/usr/libexec/virt-reimage/virt-reimage-job"] == "-rwxr-xr-x"
    assert "/usr/share/man/man8/virt-reimaged.8.gz" in files
    version = debs.field("virt-reimage", "Version")
    assert f"virt-reimage (= {version})" in debs.field("virt-reimaged", "Depends")
    assert "libvirt" not in debs.field("virt-reimaged", "Depends"), "what can hang or crash is in jobs"
