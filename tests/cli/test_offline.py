# SPDX-License-Identifier: LGPL-2.1-or-later
"""A8, C5, C6, C8: what is written into new disks offline, as a person asks for it; bad input changes nothing, and the guests run on."""
import os
import subprocess

import pytest

from lib import cheap_guest
from program import DONE, REFUSED, USAGE

full = pytest.mark.skipif(os.environ.get("VR_FULL") != "1", reason="several launches of an appliance: VR_FULL=1")
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGW5zT0XQ3H0Xo0R8nqkG1v2hYl3mS7bC0d4w9pKxJ2a"
OFFLINE = "osProfile.offlineConfiguration"


class Offline:
    def __init__(self, lab):
        self.lab, self.program, self.set_name = lab, lab.program, lab.set_name
        self.guest = lab.fleet[0]
        self.running = [guest.domain.ID() for guest in lab.fleet]

    def define(self, profile, status=DONE):
        model = self.program.model(self.set_name, self.lab.names, more=f"osProfile: {{{profile}}}\n")
        return self.program("set-define", self.program.write("set.yaml", model), status=status)

    def put(self, name, text, mode=0o600, size=None):
        path = self.program.write(name, text)
        os.chmod(path, mode)
        if size is not None:
            os.truncate(path, size)
        return path

    def untouched(self):
        assert [guest.domain.ID() for guest in self.lab.fleet] == self.running
        assert self.lab.versions() == self.lab.all_on("1.0.0")


@pytest.fixture(scope="module", name="offline")
def fixture_offline(make_lab):
    return Offline(make_lab(2, "offline", batch=100))


@pytest.mark.parametrize("profile, why", [
    ('offlineConfiguration: {hostname: "a\\nb"}', f'{OFFLINE}.hostname: "a\\nb" of '),
    ('offlineConfiguration: {hostname: "$(reboot)"}', f'{OFFLINE}.hostname: "$(reboot)" of '),
    (f'offlineConfiguration: {{hostname: {"a" * 30}.{"b" * 34}}}', "is longer than the 63 characters"),
    (f"offlineConfiguration: {{authorizedKeys: [{{user: root, keyData: 'command=\"/bin/sh\" {ED25519}'}}]}}",
     f"{OFFLINE}.authorizedKeys[0].keyData: "),
    ("offlineConfiguration: {files: [{text: a, path: /etc/../shadow}]}", "has a part that is empty, '.', '..'"),
    ("offlineConfiguration: {machineId: 0123456789abcdef0123456789abcdef}", "is the same for all instances"),
    ("carryOver: [/etc/shop], offlineConfiguration: {files: [{text: a, path: /etc/shop/b}]}", "would be written twice"),
    ("carryOver: [hostname]", "osProfile.carryOver[0]: must be ssh-hostkeys, machine-id or the absolute path"),
])
def test_a_model_that_is_refused(offline, profile, why):
    before = offline.program("set-dump", offline.set_name).out
    line = offline.define(profile, USAGE).error()
    assert "set.yaml:" in line and why in line
    assert offline.program("set-dump", offline.set_name).out == before
    offline.untouched()


def test_files_that_are_refused(offline):
    """By plan, and by upgrade before it touches a guest; each with its name."""
    offline.put("large", "", size=16 * 1024 * 1024 + 1)
    offline.put("key.pub", f"no-pty {ED25519}\n")
    os.mkdir(offline.program.path("keys"))
    offline.put("keys/ssh_host_ed25519_key", "private", 0o644)
    for keys, why in (
            ("files: [{source: none, path: /a}]", f"{OFFLINE}.files[0]: {offline.program.path('none')} cannot be read"),
            ("files: [{source: large, path: /a}]", "has 16777217 bytes, at most 16777216"),
            ("authorizedKeys: [{user: root, file: key.pub}]", "options before it are refused"),
            ("sshHostKeys: \"keys/@{instance.name}\"", f"{offline.program.path('keys')}/{offline.guest.name} has none of"),
            ("sshHostKeys: keys", "is a secret that every user of this host may use (mode 0644)")):
        offline.define(f"offlineConfiguration: {{{keys}}}")
        for command in ("plan", "upgrade"):
            line = offline.program(command, offline.set_name, "--version", "2.0.0", status=REFUSED).error()
            assert why in line, line
    offline.untouched()


def test_what_plan_says(offline):
    offline.put("token", "s3cret", 0o644)
    said = offline.define('customData: {text: a}, offlineConfiguration: {hostname: "x-@{instance.index}", timezone: UTC,'
                          " files: [{source: token, path: /etc/token}]}, carryOver: [machine-id, /srv], carryOverFrom: disk")
    assert f"{OFFLINE}.files[0]: " in said.err and "is open to every user of this host (mode 0644)" in said.err
    plan = offline.program.json("plan", offline.set_name, "--version", "2.0.0")
    assert plan["offlineConfiguration"] == ["hostname", "timezone", "files"] and plan["seed"] is True
    carried = plan["carryOver"]
    assert carried["what"] == ["machine-id", "/srv"] and carried["from"] == "disk"
    assert carried["addedOffMs"] in (10000, 45000)
    assert any("cloud-init the latter takes its place" in one for one in plan["warnings"])
    assert plan["space"]["neededBytes"] > 512 * 1024 * 1024  # the appliance, the first time
    lines = offline.program("plan", offline.set_name, "--version", "2.0.0").out
    assert "offline: written into each new OS disk before its guest has it: hostname, timezone, files" in lines
    assert "carried over: machine-id, /srv: from the old OS disk once its guest is off, which is off for about " in lines
    offline.define("")
    plan = offline.program.json("plan", offline.set_name, "--version", "2.0.0")
    assert plan["offlineConfiguration"] == [] and plan["carryOver"] is None
    offline.untouched()


def test_what_comes_from_the_guest_needs_its_agent(offline):
    offline.define("carryOver: [ssh-hostkeys]")
    plan = offline.program("--json", "plan", offline.set_name, "--version", "2.0.0", status=REFUSED)
    assert plan.json["carryOver"] == {"what": ["ssh-hostkeys"], "from": "guest", "addedOffMs": 0}
    assert "no-agent" in {finding["id"] for finding in plan.json["findings"]}
    assert "what is carried over" in plan.error()
    offline.untouched()


def test_a_disk_without_a_file_system(offline):
    """The real appliance: the new disks are a boot sector and nothing else."""
    offline.define("offlineConfiguration: {hostname: \"@{instance.name}\"}")
    said = offline.program("upgrade", offline.set_name, "--version", "2.0.0", status=REFUSED, timeout=600)
    assert "there is no system on it" in said.error()
    assert os.stat(os.path.join(offline.program.root, "appliance")).st_mode & 0o7777 == 0o700
    offline.untouched()
    assert not [name for name in os.listdir(os.path.join(offline.program.root, "disks", offline.guest.uuid)) if "g1" in name]


@full
def test_what_is_written_and_carried_over(offline):
    """C6, C8, C11, F7: the guests get disks with a Linux beside their boot sector, which is written to before they have them."""
    linux = {"/etc/hostname": "image\n", "/etc/machine-id": "", "/etc/shop/version": "of the image"}
    offline.program.publish("4.0.0", linux=linux)
    offline.program.publish("5.0.0", linux=linux)
    offline.put("token", "s3cret of @{instance.name}")
    offline.define('offlineConfiguration: {hostname: "x-@{instance.index}", machineId: "@{instance.uuid}",'
                   ' files: [{source: token, path: /etc/shop/token, template: true}]}')
    offline.program("upgrade", offline.set_name, "--version", "4.0.0", timeout=600)
    first = [guest.configured_os_disk() for guest in offline.lab.fleet]
    for index, guest in enumerate(offline.lab.fleet):
        guest.wait_boot("4.0.0", boots=2)
        assert cheap_guest.linux_file(first[index], "/etc/hostname") == f"x-{index}\n"
        assert cheap_guest.linux_file(first[index], "/etc/machine-id").strip() == guest.uuid.replace("-", "")
        assert cheap_guest.linux_file(first[index], "/etc/shop/token") == f"s3cret of {guest.name}"
    assert "up to date with the model" in offline.program("apply", offline.set_name, "--all", "--dry-run").out
    offline.put("token", "another of @{instance.name}")  # C11: nothing of the model was edited
    assert offline.program.json("apply", offline.set_name, "--all", "--dry-run")["chosenInstanceCount"] == 2
    offline.define("carryOver: [machine-id, /etc/shop/token], carryOverFrom: disk")
    offline.program("upgrade", offline.set_name, "--version", "5.0.0", timeout=1200)
    for guest in offline.lab.fleet:
        guest.wait_boot("5.0.0", boots=3)
        disk = guest.configured_os_disk()
        assert cheap_guest.linux_file(disk, "/etc/hostname") == "image\n"
        assert cheap_guest.linux_file(disk, "/etc/machine-id").strip() == guest.uuid.replace("-", "")
        assert cheap_guest.linux_file(disk, "/etc/shop/token") == f"s3cret of {guest.name}"
    offline.program("rollback", offline.set_name, "--all")
    assert [guest.configured_os_disk() for guest in offline.lab.fleet] == first
    found = subprocess.run(["grep", "-rlaE", "s3cret of|another of", offline.program.root, "/var/log/libvirt", "/run/libvirt"],
                           capture_output=True, text=True, check=False).stdout.split()
    disks = os.path.join(offline.program.root, "disks")
    assert found and all(path.startswith(disks) and path.endswith(".qcow2") for path in found), found  # invariant 29


@full
def test_the_answer_file_of_windows(offline):
    """A8: each guest gets its own, on a disk with the directories of Windows; a Linux that is asked for there is refused."""
    offline.program.publish("6.0.0", windows=True)
    offline.program.publish("7.0.0", windows=True)
    running = offline.lab.versions()
    offline.define("offlineConfiguration: {timezone: UTC}")
    line = offline.program("upgrade", offline.set_name, "--version", "6.0.0", status=REFUSED, timeout=600).error()
    assert "there is Windows on it, and a timezone cannot be written there" in line
    assert offline.lab.versions() == running
    offline.define("offlineConfiguration: {unattend: {text: "
                   "'<unattend><ComputerName>@{instance.name}</ComputerName></unattend>', template: true}}")
    offline.program("upgrade", offline.set_name, "--version", "7.0.0", timeout=600)
    for guest in offline.lab.fleet:
        answers = cheap_guest.windows_file(guest.configured_os_disk(), "/Windows/Panther/unattend.xml")
        assert answers == f"<unattend><ComputerName>{guest.name}</ComputerName></unattend>"
