# SPDX-License-Identifier: LGPL-2.1-or-later
"""B14, B17, F7: guests that boot by UEFI, with OVMF: their NVRAM belongs to the generation."""
import glob
import hashlib
import json
import os
import re
import stat
import subprocess

import libvirt
import pytest

from lib import uefi_guest
from conftest import PREFIX
from program import POLICY, REFUSED, Program

DEFAULT_DIR = "/var/lib/libvirt/qemu/nvram"
# libvirt chooses loader and file; 'no' since nobody signs our system
CHOSEN = "<firmware><feature enabled='no' name='secure-boot'/></firmware>"


def publish(program, version):
    path = uefi_guest.write_os_disk(program.path(f"{version}.qcow2"), version, "qcow2")
    program("image-publish", "cheap", version, path)


class Lab:
    def __init__(self, fleet, name):
        self.fleet, self.guest, self.set_name = fleet, fleet[0], name
        self.program = Program(fleet.path("store"), fleet.dir)
        for version in ("2.0.0", "3.0.0"):
            publish(self.program, version)
        self.program("set-define", "-", stdin=self.program.model(name, [guest.name for guest in fleet]))

    def nvram_of(self, number, guest=None):
        return os.path.join(self.program.root, "disks", (guest or self.guest).uuid, f"g{number}.nvram")

    def generations(self, guest=None):
        name = (guest or self.guest).name
        return self.program.json("generations", self.set_name, name)["generations"]


@pytest.fixture(scope="module", name="lab")
def fixture_lab():
    with uefi_guest.Fleet(1, f"{PREFIX}-uefi", version="1.0.0", start=True) as fleet:
        yield Lab(fleet, "uefi")


def content(path):
    with open(path, "rb") as file:
        return file.read()


def digest(path):
    return hashlib.sha256(content(path)).hexdigest()


def systems_on(path):
    """The versions of the systems that wrote a variable into it."""
    return [version for version in ("1.0.0", "2.0.0", "3.0.0") if uefi_guest.variable(version) in content(path)]


def mode_and_owner(path):
    of = os.stat(path)
    return stat.S_IMODE(of.st_mode), of.st_uid


def opened_by_qemu(guest):
    """The files of NVRAM that its QEMU has open."""
    with open(f"/run/libvirt/qemu/{guest.name}.pid", encoding="ascii") as file:
        pid = file.read().strip()
    links = [os.path.join("/proc", pid, "fd", fd) for fd in os.listdir(f"/proc/{pid}/fd")]
    opened = [os.readlink(link) for link in links if os.path.islink(link)]
    return sorted(path for path in opened if path.endswith((".nvram", "_VARS.fd")))


def both(guest):
    return {guest.configured_nvram(flags) for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE)}


def test_plan_names_the_copy(lab):
    plan = lab.program.json("plan", lab.set_name, "--version", "2.0.0")
    assert plan["nvramCopy"]["instanceCount"] == 1 and plan["nvramCopy"]["expectedMs"]["count"] == 0
    assert "uefi-nvram" not in [finding["id"] for finding in plan["findings"]]
    assert "the NVRAM of 1 UEFI guest is copied" in lab.program("plan", lab.set_name, "--version", "2.0.0").out


def test_an_image_without_a_fallback_loader(lab):
    """B22: its EFI system partition is looked into once, at publication; a version without that record gives no finding."""
    program = lab.program
    path = uefi_guest.write_os_disk(program.path("named.raw"), "9.0.0")
    subprocess.run(["mmd", "-i", f"{path}@@1M", "::/EFI/own"], check=True)
    subprocess.run(["mmove", "-i", f"{path}@@1M", "::/EFI/BOOT/BOOTX64.EFI", "::/EFI/own/"], check=True)
    program("image-publish", "cheap", "9.0.0", path)
    assert program.json("image-info", "cheap", "9.0.0")["boot"]["fallbackLoaders"] == []
    assert program.json("image-info", "cheap", "2.0.0")["boot"] == {
        "bios": False, "uefi": True, "architecture": "x86_64", "sectorSizeBytes": None,
        "fallbackLoaders": [{"path": "\\EFI\\BOOT\\BOOTX64.EFI", "architecture": "x86_64"}]}
    assert re.search(r"UEFI fallback: +\\EFI\\BOOT\\BOOTX64.EFI \(x86_64\)", program("image-info", "cheap", "2.0.0").out)
    assert re.search(r"UEFI fallback: +none", program("image-info", "cheap", "9.0.0").out)
    plan = program("--json", "plan", lab.set_name, "--version", "9.0.0", status=REFUSED).json
    found = {one["id"]: one for one in plan["findings"]}["image-no-fallback-loader"]
    assert found["severity"] == "blocker" and "with a fresh NVRAM it does not boot" in found["text"]
    assert "cheap 9.0.0 has no \\EFI\\BOOT\\BOOTX64.EFI for x86_64" in found["text"]
    program("plan", lab.set_name, "--version", "9.0.0", "--ignore", "image-no-fallback-loader")
    record = os.path.join(program.root, "images", "cheap", "9.0.0", "image.json")
    with open(record, encoding="utf-8") as file:
        old = json.load(file)
    del old["boot"]
    with open(record, "w", encoding="utf-8") as file:
        json.dump(old, file)
    assert program.json("image-info", "cheap", "9.0.0")["boot"]["fallbackLoaders"] is None
    assert re.search(r"UEFI fallback: +not known", program("image-info", "cheap", "9.0.0").out)
    program("plan", lab.set_name, "--version", "9.0.0")
    program("image-delete", "cheap", "9.0.0")


def test_a_new_system_gets_a_copy(lab):
    guest = lab.guest
    assert systems_on(guest.nvram) == ["1.0.0"]
    before = os.stat(guest.nvram)
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    guest.wait_boot("2.0.0", boots=2)
    new = lab.nvram_of(1)
    assert both(guest) == {new} and opened_by_qemu(guest) == [new]
    assert systems_on(new) == ["1.0.0", "2.0.0"]  # what the old system had set is there, beside what the new one set
    assert systems_on(guest.nvram) == ["1.0.0"]
    after = os.stat(guest.nvram)
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, before.st_uid)


def test_it_is_shown(lab):
    assert [one["nvram"] for one in lab.generations()] == [lab.guest.nvram, lab.nvram_of(1)]
    assert lab.nvram_of(1) in lab.program("generations", lab.set_name, lab.guest.name).out
    view = lab.program.json("instance-view", lab.set_name, lab.guest.name)
    times = view["lastSwap"]["times"]
    assert 0 <= times["nvramMs"] <= times["switchMs"] < 5000
    assert re.search(r"switch \S+ m?s \(NVRAM \S+ m?s\)|switch \S+ \(NVRAM \S+\)",
                     lab.program("instance-view", lab.set_name, lab.guest.name).out)
    plan = lab.program.json("plan", lab.set_name, "--version", "3.0.0")
    assert plan["nvramCopy"]["expectedMs"]["count"] == 1


def test_a_missing_one_is_refused_before_anything(lab):
    guest = lab.guest
    running, aside = guest.domain.ID(), guest.nvram + ".aside"
    os.rename(guest.nvram, aside)
    try:
        error = lab.program("rollback", lab.set_name, guest.name, "--to-generation", "0", status=POLICY).error()
    finally:
        os.rename(aside, guest.nvram)
    assert "the NVRAM of generation 0" in error and guest.nvram in error
    assert guest.domain.ID() == running and both(guest) == {lab.nvram_of(1)}


def test_a_missing_one_is_found_by_plan(lab):
    """Of the running guest: QEMU has the file open still, and nobody else can read it any more."""
    guest = lab.guest
    running, new, aside = guest.domain.ID(), lab.nvram_of(1), lab.nvram_of(1) + ".aside"
    os.rename(new, aside)
    try:
        plan = lab.program("plan", lab.set_name, "--version", "3.0.0", status=REFUSED).out
        error = lab.program("upgrade", lab.set_name, "--version", "3.0.0", status=REFUSED).err
        lab.program("upgrade", lab.set_name, "--version", "3.0.0", "--ignore", "nvram-unreadable", status=REFUSED)
    finally:
        os.rename(aside, new)
    assert "[nvram-unreadable]" in plan and new in plan and "[nvram-unreadable]" in error
    assert guest.domain.ID() == running and both(guest) == {new}
    assert len(lab.generations()) == 2
    assert "nvram-unreadable" not in lab.program("plan", lab.set_name, "--version", "3.0.0").out


def test_rollback_brings_the_old_one_back(lab):
    guest, new = lab.guest, lab.nvram_of(1)
    before = digest(guest.nvram)
    lab.program("rollback", lab.set_name, guest.name, "--to-generation", "0")
    guest.wait_boot("1.0.0", boots=3)
    assert both(guest) == {guest.nvram} and opened_by_qemu(guest) == [guest.nvram]
    assert systems_on(guest.nvram) == ["1.0.0"]
    guest.destroy()
    # An off guest's next boot writes what is there already, and so it is the same file still.
    assert len(before) == 64 and mode_and_owner(new) == (0o400, 0)
    assert systems_on(new) == ["1.0.0", "2.0.0"]


def test_forward_to_a_kept_one(lab):
    guest, new = lab.guest, lab.nvram_of(1)
    before = {path: digest(path) for path in (guest.nvram, new)}
    lab.program("rollback", lab.set_name, guest.name, "--to-generation", "1")  # it is off, and stays so
    assert {path: digest(path) for path in before} == before
    assert not guest.is_running() and mode_and_owner(new) == (0o600, 0)
    guest.start()
    guest.wait_boot("2.0.0", boots=4)
    assert opened_by_qemu(guest) == [new]
    assert digest(guest.nvram) == before[guest.nvram]
    guest.domain.shutdown()
    guest.wait_off(60)


def test_the_copy_is_of_the_moment_when_it_is_off(lab):
    """Off, so nothing boots in between: byte for byte what the old system left."""
    lab.program("upgrade", lab.set_name, "--version", "3.0.0")
    assert digest(lab.nvram_of(2)) == digest(lab.nvram_of(1))
    assert mode_and_owner(lab.nvram_of(2)) == (0o600, 0) and mode_and_owner(lab.nvram_of(1)) == (0o400, 0)


def lose_and_rebuild(lab, more=""):
    """state.db is lost, and is made again from the domains and the store."""
    for path in glob.glob(f"{lab.program.root}/state.db*"):
        os.unlink(path)
    told = lab.program("recover", "--rebuild").out
    lab.program("set-define", "-", stdin=lab.program.model(lab.set_name, [guest.name for guest in lab.fleet], more=more))
    return told


def files(lab, guest=None):
    """Those of generations."""
    names = os.listdir(os.path.join(lab.program.root, "disks", (guest or lab.guest).uuid))
    return sorted(name for name in names if re.fullmatch(r"g\d+\..*", name))


def test_without_the_journal(lab):
    """B14, B17: what each generation's NVRAM is, is found again; then back, forward, and away with what is ours."""
    guest, before = lab.guest, lab.generations()
    told = lose_and_rebuild(lab, more="retention: {generations: 1, failedDisks: 0}\n")
    assert f"of set {lab.set_name} is restored" in told and "not restored" not in told
    keys = ("generation", "path", "state", "nvram", "sealed")
    assert [{key: one[key] for key in keys} for one in lab.generations()] == [
        {key: one[key] for key in keys} for one in before]
    kept = digest(guest.nvram), digest(lab.nvram_of(2))
    lab.program("rollback", lab.set_name, guest.name, "--to-generation", "1")
    assert both(guest) == {lab.nvram_of(1)}
    guest.start()
    guest.wait_boot("2.0.0", boots=5)
    assert opened_by_qemu(guest) == [lab.nvram_of(1)] and (digest(guest.nvram), digest(lab.nvram_of(2))) == kept
    guest.destroy()
    lab.program("upgrade", lab.set_name, "--version", "3.0.0")
    assert digest(lab.nvram_of(3)) == digest(lab.nvram_of(1)) and mode_and_owner(lab.nvram_of(1)) == (0o400, 0)
    lab.program("gc", lab.set_name)
    consoles = ["g0.console.log", "g1.console.log"]  # both were started by a swap; 3 was not yet
    assert sorted(files(lab)) == sorted([*consoles, "g0.xml", "g1.nvram", "g1.qcow2", "g1.xml", "g3.nvram", "g3.qcow2", "g3.xml"])
    lab.program("rollback", lab.set_name, guest.name, "--to-generation", "0")
    assert both(guest) == {guest.nvram} and digest(guest.nvram) == kept[0]


def default_nvram(guest):
    return os.path.join(DEFAULT_DIR, f"{guest.name}_VARS.fd")


@pytest.fixture(name="make")
def fixture_make():
    fleets = []

    def make(name, firmware, attributes="", count=1):
        fleet = uefi_guest.Fleet(count, f"{PREFIX}-{name}", version="1.0.0", firmware=firmware,
                                 os_attributes=attributes)
        fleet.__enter__()
        fleets.append(fleet)
        return Lab(fleet, name)

    yield make
    for fleet in fleets:
        fleet.clean_up()
        for guest in fleet:
            if os.path.exists(default_nvram(guest)):
                os.unlink(default_nvram(guest))


def start_and_stop(guest):
    """libvirt makes the NVRAM at the first start; the system itself need not run for it."""
    guest.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    guest.destroy()


def test_libvirt_chooses_the_file(make):
    """<os firmware='efi'/>: one that was never started, and one that was and is off, and whose XML names no file."""
    lab = make("chosen", CHOSEN, " firmware='efi'", count=2)
    fresh, known = lab.fleet
    start_and_stop(known)
    default = default_nvram(known)
    assert known.configured_nvram(libvirt.VIR_DOMAIN_XML_INACTIVE) is None and os.path.exists(default)
    before = digest(default)
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    assert [one["nvram"] for one in lab.generations(known)] == [default, lab.nvram_of(1, known)]
    assert digest(lab.nvram_of(1, known)) == before == digest(default)
    assert not os.path.exists(lab.nvram_of(1, fresh))
    lose_and_rebuild(lab)  # generation 0's is asked of libvirt once more, by what g0.xml says
    assert [one["nvram"] for one in lab.generations(known)] == [default, lab.nvram_of(1, known)]
    assert [one["generation"] for one in lab.generations(fresh)] == [1]
    fresh.start()
    fresh.wait_boot("2.0.0")
    assert opened_by_qemu(fresh) == [lab.nvram_of(1, fresh)]
    lab.program("rollback", lab.set_name, known.name, "--to-generation", "0")
    assert known.configured_nvram(libvirt.VIR_DOMAIN_XML_INACTIVE) == default
    start_and_stop(known)
    assert digest(default) == before


SECURE = (f"<loader readonly='yes' secure='yes' type='pflash'>{uefi_guest.SECURE_CODE_FILE}</loader>"
          f"<nvram template='{uefi_guest.SECURE_VARS_FILE}'>NVRAM</nvram>")


@pytest.mark.parametrize("name, firmware", [("source", uefi_guest.AS_SOURCE), ("secure", SECURE)],
                         ids=["source", "secure"])
def test_other_spellings_and_secure_boot(make, name, firmware):
    """<nvram type='file'> with a <source>; and Secure Boot, whose enrolled keys go with the copy."""
    lab = make(name, firmware)
    guest = lab.guest
    start_and_stop(guest)
    before = digest(guest.nvram)
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    assert digest(lab.nvram_of(1)) == before
    nvram = guest.os_element().find("nvram")
    assert (nvram.find("source") is not None) == (name == "source")
    keys = b"PK\0".decode().encode("utf-16-le"), "KEK".encode("utf-16-le")
    assert all((key in content(lab.nvram_of(1))) == (name == "secure") for key in keys)
    guest.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    assert both(guest) == {lab.nvram_of(1)} and opened_by_qemu(guest) == [lab.nvram_of(1)]
    guest.destroy()
    lab.program("rollback", lab.set_name, guest.name)
    start_and_stop(guest)
    assert guest.configured_nvram(libvirt.VIR_DOMAIN_XML_INACTIVE) == guest.nvram and digest(guest.nvram) == before
