# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done on a throw-away host: packages, cheap guests, a set of them."""
import hashlib
import json
import os

from lib import cheap_guest, schemas
from throwaway import Throwaway

ROOT = "/var/lib/virt-reimage"
GUESTS = "/var/lib/guests"
IMAGE = "cheap"


def model(name, guests, more=""):
    lines = "".join(f"- {{domain: {guest}}}\n" for guest in guests)
    return (f"schemaVersion: 1\nname: {name}\nimageReference: {{name: {IMAGE}, version: latest}}\n"
            "upgradePolicy:\n  rollingUpgradePolicy: {maxBatchInstancePercent: 50, maxUnhealthyInstancePercent: 100}\n"
            "healthProfile: {healthTimeout: PT20S}\n"
            "osDisk: {target: vda}\nstop: {method: acpi, timeout: PT20S, force: true}\n"
            f"{more}instances:\n{lines}")


class Host(Throwaway):
    def start_libvirt(self):
        self("virtlogd", "-d")
        self("libvirtd", "-d")
        self.wait_for(lambda: self.run("virsh", "list").status == 0, 30, "libvirt answers")

    def install(self, debs, *names):
        """In one call of dpkg; what it said."""
        files = [self.put(debs[name], f"/tmp/{name}.deb") for name in names]
        return self("dpkg", "--force-confdef", "-i", *files)

    @staticmethod
    def program(user):
        """A user names the host's libvirt, as for virsh: else it is about guests of his own."""
        return ["virt-reimage", "-c", "qemu:///system"] if user else ["virt-reimage"]

    def reimage(self, *words, status=0, user=None, stdin="", timeout=180):
        return self(*self.program(user), *words, status=status, user=user, stdin=stdin, timeout=timeout)

    def reimage_json(self, *words, user=None):
        done = self.run(*self.program(user), "--json", *words, user=user)
        assert done.status == 0, (words, done.status, done.out, done.err)
        schemas.check_output(["--json", *words], done.out)
        return json.loads(done.out)

    def write_image(self, version, **options):
        path = f"/var/tmp/{version}.qcow2"
        cheap_guest.write_os_disk(self.path(path), version, "qcow2", **options)
        return path

    def publish(self, *versions, **options):
        for version in versions:
            self.reimage("image-publish", IMAGE, version, self.write_image(version, **options))

    def add_guest(self, name):
        """That runs 1.0.0, with a data disk."""
        os.makedirs(self.path(GUESTS), exist_ok=True)
        os_disk, data = f"{GUESTS}/{name}.qcow2", f"{GUESTS}/{name}.data"
        cheap_guest.write_os_disk(self.path(os_disk), "1.0.0", "qcow2")
        cheap_guest.write_data_disk(self.path(data))
        xml = cheap_guest.domain_xml(name, os_disk, data=[(data, "raw", "DATA01")], console=f"{GUESTS}/{name}.log")
        self("virsh", "define", "/dev/stdin", stdin=xml)
        self("virsh", "start", name)
        self.wait_boot(name, "1.0.0")
        return name

    def add_set(self, name, guests, more=""):
        self.reimage("set-define", "-", stdin=model(name, guests, more))
        for guest in guests:
            self.reimage("adopt", name, guest, "--version", "1.0.0")

    def booted_versions(self, guest):
        path = f"{GUESTS}/{guest}.log"
        mark = cheap_guest.banner("").strip() + " "
        return [line[len(mark):].strip() for line in (self.read(path) if self.exists(path) else "").splitlines() if line.startswith(mark)]

    def wait_boot(self, guest, version, timeout=30):
        self.wait_for(lambda: self.booted_versions(guest)[-1:] == [version], timeout, f"{guest} boots {version}")

    def qemu(self, guest):
        """The process of a guest: it is the same one as long as nobody touched it."""
        return self.read(f"/run/libvirt/qemu/{guest}.pid").strip()

    def versions(self, set_name, user=None):
        return [instance["version"] for instance in self.reimage_json("status", set_name, user=user)["instances"]]

    def disks(self):
        """Every file of images, disks and guests: mode, owner and content."""
        seen = {}
        for top in (f"{ROOT}/images", f"{ROOT}/disks", GUESTS):
            for folder, _, files in os.walk(self.path(top)):
                for name in files:
                    path = os.path.join(folder, name)
                    with open(path, "rb") as file:
                        state = os.fstat(file.fileno())
                        seen[path] = (oct(state.st_mode), state.st_uid, hashlib.sha256(file.read()).hexdigest())
        assert seen
        return seen
