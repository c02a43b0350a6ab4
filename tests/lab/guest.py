#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a lab guest is, seen from inside (by its agent) and from the host (by virsh).

usage: guest.py wait NAME...    wait until each guest's agent answers and it reports Healthy
       guest.py show NAME...    a line for each guest
       guest.py version NAME... the version that each guest says it runs, one a line

Standard library only: the demo runs it on a host that has no test packages.
"""
import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

URI = os.environ.get("LIBVIRT_DEFAULT_URI", "qemu:///system")

# One exec gathers all: an exec costs a few agent round trips.  Prints `key value` lines.
FACTS_SCRIPT = r"""
echo version $(cat /etc/lab-version)
echo boot_id $(cat /proc/sys/kernel/random/boot_id)
echo boots $(wc -l </data/boots)
echo payload_sha256 $(sha256sum </data/payload.bin | cut -d' ' -f1)
echo payload_inode $(stat -c %i /data/payload.bin)
echo temp_marker $(cat /tmpdisk/marker 2>/dev/null)
echo health $(cat /run/health.json 2>/dev/null)
"""


class GuestError(Exception):
    """virsh or the guest's agent said no, or did not answer in time."""


def virsh(*arguments, timeout=30):
    """Runs virsh and returns its output; its error message becomes a GuestError."""
    command = ["virsh", "-q", "-c", URI, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout,
                              env={**os.environ, "LC_ALL": "C"})
    except subprocess.TimeoutExpired as error:
        raise GuestError(f"virsh {arguments[0]}: no answer in {timeout} s") from error
    if done.returncode != 0:
        raise GuestError(done.stderr.strip() or f"virsh {arguments[0]} failed")
    return done.stdout.strip()


def wait_until(condition, timeout, what, interval=0.2):
    """Calls condition() until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise GuestError(f"{what}: not within {timeout} s")
        time.sleep(interval)


def file_facts(path):
    """Digest, mode, owner, size and inode of a file of the host."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        status = os.fstat(file.fileno())
    return {"sha256": digest, "mode": f"{status.st_mode & 0o7777:04o}", "uid": status.st_uid,
            "size": status.st_size, "inode": status.st_ino}


class Guest:
    """One libvirt domain, by name."""

    def __init__(self, name):
        self.name = name

    # ---- from inside, by the agent ----

    def agent(self, command, timeout=5, **arguments):
        """One agent command; returns what the agent returned."""
        request = json.dumps({"execute": command, "arguments": arguments})
        answer = virsh("qemu-agent-command", self.name, "--timeout", str(timeout), request,
                       timeout=timeout + 10)
        return json.loads(answer)["return"]

    def agent_answers(self):
        try:
            self.agent("guest-ping", timeout=1)
        except GuestError:
            return False
        return True

    def wait_for_agent(self, timeout=60):
        wait_until(self.agent_answers, timeout, f"the agent of {self.name}")

    def run(self, *argv, timeout=20):
        """Runs a program in the guest; returns its output, raises if it fails."""
        started = self.agent("guest-exec", path=argv[0], arg=list(argv[1:]),
                             **{"capture-output": True})

        def ended():
            status = self.agent("guest-exec-status", pid=started["pid"])
            return status if status["exited"] else None

        status = wait_until(ended, timeout, f"{argv[0]} in {self.name}", interval=0.1)
        output = base64.b64decode(status.get("out-data", "")).decode(errors="replace")
        if status.get("exitcode") != 0:
            problem = base64.b64decode(status.get("err-data", "")).decode(errors="replace")
            raise GuestError(f"{self.name}: {' '.join(argv)}: {problem or output}")
        return output

    def read(self, path):
        return self.run("/bin/cat", path)

    def inside(self):
        """Version, boot id, boot counter, payload digest and inode, temp marker, health."""
        lines = self.run("/bin/sh", "-c", FACTS_SCRIPT).splitlines()
        return {key: value for key, _, value in (line.partition(" ") for line in lines)}

    def boots(self):
        """The data disk's boot counter: a list of (number, boot id, version)."""
        return [tuple(line.split()) for line in self.read("/data/boots").splitlines()]

    def is_healthy(self):
        try:
            report = json.loads(self.read("/run/health.json"))
        except (GuestError, json.JSONDecodeError):
            return False
        return report.get("ApplicationHealthState") == "Healthy"

    # ---- from the host ----

    def state(self):
        return virsh("domstate", self.name)

    def xml(self, inactive=False):
        option = ["--inactive"] if inactive else []
        return ElementTree.fromstring(virsh("dumpxml", self.name, *option))

    def disks(self, inactive=False):
        """Target name -> path of the disk's source."""
        return {disk.find("target").get("dev"): disk.find("source").get("file")
                for disk in self.xml(inactive).iterfind("devices/disk")
                if disk.find("source") is not None}

    def identity(self):
        """What no swap may change: UUID, MACs and the address of each device."""
        root = self.xml(inactive=True)
        addresses = [f"{device.tag} " + " ".join(f"{k}={v}" for k, v in address.items())
                     for device in root.find("devices")
                     for address in device.iterfind("address")]
        return {"uuid": root.findtext("uuid"),
                "macs": [mac.get("address") for mac in root.iterfind("devices/interface/mac")],
                "addresses": addresses}

    def facts(self):
        """All of the above, as one dictionary that JSON can hold."""
        return {"inside": self.inside(), "identity": self.identity(), "disks": self.disks()}


def line_of(name):
    """State, version and health of a guest, or why they cannot be told."""
    guest = Guest(name)
    try:
        state = guest.state()
        if state != "running":
            return f"{name}  {state}"
        facts = guest.inside()
    except GuestError as error:
        return f"{name}  {str(error).splitlines()[0]}"
    return f"{name}  running  version {facts['version']}  boot {facts['boots']}  {facts['health']}"


def wait_for(name):
    guest = Guest(name)
    guest.wait_for_agent(120)
    wait_until(guest.is_healthy, 60, f"the health report of {name}")


def main(arguments):
    verbs = {"wait": wait_for, "show": lambda name: print("  " + line_of(name)),
             "version": lambda name: print(Guest(name).inside()["version"])}
    if len(arguments) < 2 or arguments[0] not in verbs:
        sys.exit(__doc__)
    try:
        for name in arguments[1:]:
            verbs[arguments[0]](name)
    except GuestError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
