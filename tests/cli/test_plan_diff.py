# SPDX-License-Identifier: LGPL-2.1-or-later
"""What plan --print-diff shows is what the swap does: its diff, applied to the XML before, is the XML after. And plan ends with what to type. G10."""
import os
import pty
import re
import subprocess
from xml.sax.saxutils import escape

import libvirt
import pytest

from lib import uefi_guest
from conftest import PREFIX
from program import BINARY, DONE, REFUSED, USAGE, Program

SECRET = "pa55word-of-the-console"
VNC = f"<graphics type='vnc' autoport='yes' listen='127.0.0.1' passwd='{SECRET[:8]}'/><video><model type='none'/></video>"
SWAP = "UUID-OF-THE-SWAP"


def dump(guest, flags=libvirt.VIR_DOMAIN_XML_INACTIVE):
    return guest.domain.XMLDesc(flags)


def diffs(program, *words, status=DONE):
    document = program("--json", *words, "--print-diff", status=status).json
    return {one["domain"]: one for one in document["xmlDiffs"]}


def patched(program, text, diff):
    """As patch(1) makes it."""
    path = program.write("patched.xml", text)
    subprocess.run(["patch", "--quiet", "--fuzz=0", path], input=diff, text=True, check=True)
    with open(path, encoding="utf-8") as file:
        return file.read()


def added_lines(expected, lines):
    """What stands between the expected lines, which all come, in their order."""
    for line in expected:
        for other in lines:
            if other == line:
                break
            yield other
        else:
            raise AssertionError(line)


def without_swap(text):
    return re.sub(r' swap="[^"]*"', "", text)


def check(program, guests, planned, act):
    """What was planned of each guest, and what act() makes of it."""
    before = {guest.name: dump(guest) for guest in guests}
    shown = diffs(program, *planned)
    assert {guest.name: dump(guest) for guest in guests} == before and set(shown) == set(before)
    act()
    for guest in guests:
        after, one = dump(guest), shown[guest.name]
        expected = patched(program, before[guest.name], one["diff"])
        assert expected != before[guest.name] and SWAP in expected
        assert without_swap(expected) == without_swap(after)
        assert f'generation="{one["generation"]}"' in after and one["uuid"] == guest.uuid
    return shown


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "diff")


def test_forward_and_back(lab):
    """From a disk that was found, from one that was made, and back; the swap's UUID is all that is not known before."""
    program, name = lab.program, lab.set_name
    for version, generation in (("2.0.0", 1), ("3.0.0", 2)):
        shown = check(program, lab.fleet, ("plan", name, "--version", version), lambda to=version: program("upgrade", name, "--version", to))
        for guest in lab.fleet:
            lines = shown[guest.name]["diff"].splitlines()
            assert lines[:2] == [f"--- {guest.name} (now)", f"+++ {guest.name} (generation {generation}, cheap {version})"]
            assert any(line.startswith("+ ") and f"/g{generation}.qcow2'" in line for line in lines)
            assert any(line.startswith("+ ") and f"images/cheap/{version}/disk.qcow2" in line for line in lines)
    shown = check(program, lab.fleet, ("rollback", name, "--all", "--dry-run"), lambda: program("rollback", name, "--all"))
    assert {one["generation"] for one in shown.values()} == {1}
    back = ("rollback", name, *lab.names, "--to-generation", "0")
    check(program, lab.fleet, (*back, "--dry-run"), lambda: program(*back))
    assert [guest.configured_os_disk() for guest in lab.fleet] == [guest.os_disk for guest in lab.fleet]


def test_a_full_clone(lab):
    """It refers to no version."""
    model = lab.program.model(lab.set_name, lab.names, kind="full")
    lab.program("set-define", "--no-apply", "-", stdin=model)
    try:
        shown = check(lab.program, lab.fleet, ("plan", lab.set_name, "--version", "2.0.0"),
                      lambda: lab.program("upgrade", lab.set_name, "--version", "2.0.0"))
        assert all("images/cheap" not in one["diff"] for one in shown.values())
    finally:
        lab.define()


def test_a_seed(lab):
    """The drive that comes with the first one gets its address of libvirt, and a controller; from then on all is known before."""
    more = "osProfile: {computerName: \"@{instance.name}\"}\n"
    lab.program("set-define", "--no-apply", "-", stdin=lab.program.model(lab.set_name, lab.names, more=more))
    try:
        guest = lab.fleet[0]
        before = dump(guest)
        shown = diffs(lab.program, "reimage", lab.set_name, guest.name, "--dry-run")[guest.name]["diff"]
        lab.program("reimage", lab.set_name, guest.name)
        expected = without_swap(patched(lab.program, before, shown)).splitlines()
        after = without_swap(dump(guest)).splitlines()
        assert any("seed.iso" in line for line in expected)
        rest = iter(after)
        added = list(added_lines(expected, rest)) + list(rest)
        assert added and all(re.match(r" +(<address |</?controller[ >])", line) for line in added), added
        check(lab.program, [guest], ("reimage", lab.set_name, guest.name, "--dry-run"), lambda: lab.program("reimage", lab.set_name, guest.name))
    finally:
        lab.define()


def test_no_secret_is_shown(lab):
    """Nor any character that a terminal would obey. libvirt hides the password itself: the engine's own dump has it."""
    guest = lab.fleet[1]
    title = "web\u009b31m & 'co'"
    xml = dump(guest).replace("<metadata>", f"<title>{escape(title)}</title><metadata>").replace("</devices>", VNC + "</devices>")
    lab.fleet.connection.defineXML(xml)
    assert SECRET[:8] in dump(guest, libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    planned = ("reimage", lab.set_name, guest.name, "--dry-run")
    text = lab.program(*planned, "--print-diff")
    document = lab.program("--json", *planned, "--print-diff")
    assert "\u009b" not in text.out and "<title>web?31m" in text.out
    for output in (text, document):
        assert SECRET[:8] not in output.out + output.err and "disk.qcow2" in output.out
    check(lab.program, [guest], planned, lambda: lab.program("reimage", lab.set_name, guest.name))
    assert SECRET[:8] in dump(guest, libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)


def on_terminal(program, *words, **environment):
    """What a terminal is sent."""
    reader, writer = pty.openpty()
    kept = {key: value for key, value in program.environment.items() if key != "NO_COLOR"}
    with subprocess.Popen(program.command(*words), stdin=writer, stdout=writer, stderr=subprocess.DEVNULL,
                          env={**kept, "TERM": "xterm-256color", **environment}) as process:
        os.close(writer)
        text = b""
        try:
            while chunk := os.read(reader, 65536):
                text += chunk
        except OSError:  # the other end is closed
            pass
        os.close(reader)
    assert process.returncode == 0
    return text.decode().replace("\r\n", "\n")


def same_space(text):
    """Others write to the disk too."""
    return re.sub(r"[\d.]+ \wiB free", "some free", text)


def test_colours(lab):
    planned = ("plan", lab.set_name, "--version", "3.0.0", "--print-diff")
    shown = on_terminal(lab.program, *planned)
    assert "\x1b[32m+      <backingStore type='file'>" in shown or "\x1b[32m+" in shown
    assert "\x1b[31m-" in shown and "\x1b[36m@@" in shown and "\x1b[1m--- " in shown
    plain = lab.program(*planned).out
    assert "\x1b" not in plain
    assert same_space(re.sub("\x1b(\\[[0-9;]*m|\\(B)", "", shown)).splitlines() == same_space(plain).splitlines()
    assert "\x1b" not in on_terminal(lab.program, *planned, NO_COLOR="1")
    assert "\x1b" not in on_terminal(lab.program, *planned, TERM="dumb")


def test_it_changes_nothing(lab):
    before, domains = lab.program.snapshot(), [dump(guest) for guest in lab.fleet]
    ids = [guest.domain.ID() for guest in lab.fleet]
    lab.program("plan", lab.set_name, "--version", "3.0.0", "--print-diff")
    lab.program("rollback", lab.set_name, *lab.names, "--dry-run", "--print-diff")
    assert lab.program.snapshot() == before
    assert [dump(guest) for guest in lab.fleet] == domains and [guest.domain.ID() for guest in lab.fleet] == ids


def test_one_that_cannot_be_told(lab):
    """Somebody gave it another disk: why there is no diff is said in its place, the others have theirs."""
    odd, other = lab.fleet[0], lab.fleet[1]
    xml = dump(odd, libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    lab.fleet.connection.defineXML(odd.xml())
    try:
        words = ("plan", lab.set_name, "--version", "3.0.0")
        found = diffs(lab.program, *words, status=REFUSED)
        assert found[odd.name]["diff"] is None and found[odd.name]["generation"] is None
        assert f"the OS disk of '{odd.name}' is {odd.os_disk}, but its generation" in found[odd.name]["reason"]
        assert found[other.name]["reason"] is None and "images/cheap/3.0.0" in found[other.name]["diff"]
        assert f"\nno difference to show of {odd.name}: the OS disk of" in lab.program(*words, "--print-diff", status=REFUSED).out
    finally:
        lab.fleet.connection.defineXML(xml)


def test_only_when_asked(lab):
    planned = lab.program("--json", "plan", lab.set_name, "--version", "3.0.0").json
    assert planned["xmlDiffs"] is None
    assert "@@" not in lab.program("plan", lab.set_name, "--version", "3.0.0").out
    error = lab.program("upgrade", lab.set_name, "--print-diff", status=USAGE).error()
    assert "--print-diff of upgrade goes with --dry-run" in error


def last_line(result):
    return result.out.rstrip("\n").splitlines()[-1]


def test_the_command_to_type(lab):
    """The last line; typed, it does what was shown."""
    program, name = lab.program, lab.set_name
    place = f"virt-reimage --connect {program.uri} --root {program.root}"
    program("upgrade", name, "--version", "2.0.0")
    assert last_line(program("plan", name, "--version", "2.0.0")).endswith("nothing to do: no instance is to be moved")
    back = program("rollback", name, *lab.names, "--dry-run")
    assert last_line(back) == f"to do this: {place} rollback {name} {' '.join(lab.names)}"
    again = program("reimage", name, lab.names[0], "--reason", "it's slow", "--no-auto-rollback", "--dry-run")
    command = rf"{place} reimage {name} {lab.names[0]} --no-auto-rollback --reason 'it'\''s slow'"
    assert last_line(again) == f"to do this: {command}"
    planned = program("plan", name, "--version", "3.0.0", "--print-diff")
    command = program.json("plan", name, "--version", "3.0.0")["command"]
    assert command == f"{place} upgrade {name} --version 3.0.0" and last_line(planned) == f"to do this: {command}"
    path = f"{os.path.dirname(BINARY)}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], check=True, env={**program.environment, "PATH": path}, stdout=subprocess.DEVNULL)
    assert lab.versions() == lab.all_on("3.0.0")
    plan = program.json("plan", name)
    assert plan["command"] is None and plan["chosenInstanceCount"] == 0


def test_what_is_refused_has_no_command(lab):
    """Its error says what to type."""
    lab.fleet[0].domain.managedSave()
    try:
        result = lab.program("plan", lab.set_name, "--version", "2.0.0", "--print-diff", status=REFUSED)
        assert "to do this" not in result.out and "  next:  " in result.err
        assert lab.program("--json", "plan", lab.set_name, "--version", "2.0.0", status=REFUSED).json["command"] is None
    finally:
        lab.fleet[0].domain.managedSaveRemove()
        lab.fleet[0].start()


def test_the_same_finding_is_said_once(lab):
    """Of two guests that do not start with the host; blockers come before it."""
    out = lab.program("plan", lab.set_name, "--version", "2.0.0").out
    lines = [line for line in out.splitlines() if "[no-autostart]" in line]
    assert lines == [f"warning: {lab.names[0]} runs, but does not start with the host: a reboot of the host leaves it off "
                     f"[no-autostart]; virsh autostart {lab.names[0]} (the same of 1 more: {lab.names[1]})"]
    findings = lab.program.json("plan", lab.set_name, "--version", "2.0.0")["findings"]
    assert [one["domain"] for one in findings if one["id"] == "no-autostart"] == lab.names


def test_the_order(lab):
    """Batches, findings, space, drives, downtime, diff, command."""
    out = lab.program("plan", lab.set_name, "--version", "2.0.0", "--print-diff").out
    places = [out.index(text) for text in ("BATCH ", "warning: ", "space: ", "DISK KIND", "expected downtime: ", "--- ", "to do this: ")]
    assert places == sorted(places)


CHOSEN = "<firmware><feature enabled='no' name='secure-boot'/></firmware>"


@pytest.mark.parametrize("named", [True, False], ids=["named", "left to libvirt"])
def test_nvram(named):
    """Of a guest whose XML names its NVRAM, and of one where libvirt chooses the file."""
    options = {} if named else {"firmware": CHOSEN, "os_attributes": " firmware='efi'"}
    with uefi_guest.Fleet(1, f"{PREFIX}-diffuefi", version="1.0.0", start=True, **options) as fleet:
        program = Program(fleet.path("store"), fleet.dir)
        for version in ("2.0.0", "3.0.0"):
            program("image-publish", "cheap", version, uefi_guest.write_os_disk(program.path(f"{version}.qcow2"), version, "qcow2"))
        program("set-define", "-", stdin=program.model("uefi", [fleet[0].name]))
        for version, generation in (("2.0.0", 1), ("3.0.0", 2)):
            shown = check(program, fleet, ("plan", "uefi", "--version", version), lambda to=version: program("upgrade", "uefi", "--version", to))
            assert f"g{generation}.nvram" in shown[fleet[0].name]["diff"]
        check(program, fleet, ("rollback", "uefi", "--all", "--dry-run"), lambda: program("rollback", "uefi", "--all"))
    default = f"/var/lib/libvirt/qemu/nvram/{PREFIX}-diffuefi-0_VARS.fd"
    if os.path.exists(default):
        os.unlink(default)
