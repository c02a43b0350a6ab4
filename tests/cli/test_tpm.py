# SPDX-License-Identifier: LGPL-2.1-or-later
"""B14: a guest with an emulated TPM (swtpm). Its state stays where libvirt has it, whatever disk the guest runs on; the tests follow each
other on one guest."""
import hashlib
import os
import pwd
import shutil
from xml.etree import ElementTree

import libvirt
import pytest

from lib import cheap_guest
from conftest import PREFIX, Lab

STATE = "/var/lib/libvirt/swtpm"
TPM = "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>"


class Guest(cheap_guest.Guest):
    def xml(self, **changes):
        return super().xml(extra_devices=TPM, **changes)


class Fleet(cheap_guest.Fleet):
    guest_class = Guest

    def clean_up(self):
        """With their TPMs, which later versions of libvirt leave."""
        super().clean_up()
        for guest in self:
            shutil.rmtree(os.path.join(STATE, guest.uuid), ignore_errors=True)


def give_ca_to_tss():
    """libvirt runs swtpm as tss, but as root where libvirtd is older than that user (swtpm installed later). What root left in the local CA,
    tss may not write."""
    try:
        owner = pwd.getpwnam("tss").pw_uid
    except KeyError:
        return
    for folder, _, names in os.walk("/var/lib/swtpm-localca"):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            os.chown(path, owner, -1)


@pytest.fixture(scope="module", name="lab")
def fixture_lab():
    give_ca_to_tss()
    with Fleet(1, f"{PREFIX}-tpm", version="1.0.0", start=True) as fleet:
        yield Lab(fleet)


@pytest.fixture(name="guest")
def fixture_guest(lab):
    return lab.fleet[0]


def files(guest):
    """Every file of its TPM and its digest; the lock of swtpm is none of it."""
    found = {}
    for folder, _, names in os.walk(os.path.join(STATE, guest.uuid)):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                found[os.path.join(folder, name)] = hashlib.sha256(file.read()).hexdigest()
    return {path: digest for path, digest in found.items() if not path.endswith(".lock")}


def certificates(guest):
    """Those of its endorsement keys and of its platform, which swtpm makes once for each TPM: DER within its state."""
    with open(os.path.join(STATE, guest.uuid, "tpm2", "tpm2-00.permall"), "rb") as file:
        state = file.read()
    found, at = [], state.find(b"\x30\x82")
    while at >= 0:
        length = 4 + int.from_bytes(state[at + 2 : at + 4], "big")
        if 512 < length <= len(state) - at and state[at + 4 : at + 6] == b"\x30\x82":
            found.append(state[at : at + length])
            at += length - 1
        at = state.find(b"\x30\x82", at + 1)
    return found


def identity(guest, flags):
    """What invariant 14 names: UUID, MACs, machine type and the TPM, as its XML has them."""
    root = ElementTree.fromstring(guest.domain.XMLDesc(flags))
    tpm = root.find("devices/tpm")
    backend = tpm.find("backend")
    return (root.find("uuid").text, [mac.get("address") for mac in root.iter("mac")], root.find("os/type").get("machine"),
            tpm.get("model"), backend.get("type"), backend.get("version"))


def both(guest):
    return identity(guest, 0), identity(guest, libvirt.VIR_DOMAIN_XML_INACTIVE)


def process_states(guest):
    """The directories that the swtpm processes of the guest, known by its UUID or name, work in."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                words = file.read().split("\0")
        except OSError:
            continue  # it has ended
        if os.path.basename(words[0]) == "swtpm" and any(guest.uuid in word or guest.name in word for word in words):
            found += [word.split(",")[0].removeprefix("dir=") for word in words if word.startswith("dir=")]
    return found


@pytest.fixture(scope="module", name="first")
def fixture_first(lab):
    """What the TPM was before any swap."""
    guest = lab.fleet[0]
    seen = {"both": both(guest), "inode": os.stat(os.path.join(STATE, guest.uuid)).st_ino,
            "certificates": certificates(guest)}
    assert seen["certificates"]
    return seen


def expect_same(guest, first):
    assert both(guest) == first["both"]
    assert os.stat(os.path.join(STATE, guest.uuid)).st_ino == first["inode"]
    assert certificates(guest) == first["certificates"]
    assert process_states(guest) == [os.path.join(STATE, guest.uuid, "tpm2")]


def test_plan_says_what_a_tpm_means(lab, guest):
    plan = lab.program.json("plan", lab.set_name, "--version", "2.0.0")
    found = [finding for finding in plan["findings"] if finding["id"] == "tpm"]
    assert [(finding["severity"], finding["domain"]) for finding in found] == [("warning", guest.name)]
    assert "[tpm]" in lab.program("plan", lab.set_name, "--version", "2.0.0").out


def test_forward_and_back(lab, guest, first):
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    guest.wait_boot("2.0.0", boots=2)
    expect_same(guest, first)
    lab.program("rollback", lab.set_name, guest.name)
    guest.wait_boot("1.0.0", boots=3)
    expect_same(guest, first)


def test_of_a_guest_that_is_off_no_byte_changes(lab, guest, first):
    guest.domain.shutdown()
    guest.wait_off()
    before = files(guest)
    assert before
    lab.program("upgrade", lab.set_name, "--version", "3.0.0")
    assert files(guest) == before
    lab.program("rollback", lab.set_name, guest.name, "--to-generation", "0")
    assert files(guest) == before and not guest.is_running()
    guest.start()
    guest.wait_boot("1.0.0", boots=4)
    expect_same(guest, first)
