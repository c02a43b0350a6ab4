# SPDX-License-Identifier: LGPL-2.1-or-later
"""F11: what a guest said on its serial console between its start and its health is kept, and shown where that failed."""
import os
import re
import stat
import time

import pytest

from conftest import PREFIX, Lab
from lib import cheap_guest
from program import IMAGE, POLICY

BANNER = "cheap guest version 9.0.0"
SHOWN = "cheap guest version <script?red"  # a backspace takes the last of its letters


class Guest(cheap_guest.Guest):
    """Its console is what its fleet says: a pseudo terminal, with or without a log file."""

    def xml(self, **changes):
        device = self.fleet.device.format(log=self.console)
        return super().xml(**{**changes, "console": None}).replace("<memballoon", device + "<memballoon")


class Fleet(cheap_guest.Fleet):
    guest_class = Guest
    device = "<serial type='pty'/>"

    def start_all(self):
        for guest in self.guests:
            guest.start()
        time.sleep(1)


@pytest.fixture(name="make")
def fixture_make():
    """A lab of guests that run 1.0.0, with a 9.0.0 that says its last words for two seconds, and ends."""
    fleets = []

    def make(name, device=Fleet.device, count=1):
        fleet = Fleet(count, f"{PREFIX}-{name}", version="1.0.0")
        fleet.device = device
        fleets.append(fleet)
        fleet.__enter__()
        fleet.start_all()
        lab = Lab(fleet)
        lab.program("image-publish", IMAGE, "9.0.0", lab.program.image("9.0.0", name="last.qcow2", last_words=True))
        return lab

    yield make
    for fleet in fleets:
        fleet.clean_up()


def kept(lab, generation, index=0):
    """The file's lines, without its head; None: there is none."""
    path = f"{lab.program.root}/disks/{lab.fleet[index].uuid}/g{generation}.console.log"
    try:
        with open(path, encoding="utf-8") as file:
            head, *lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and os.stat(path).st_uid == 0
    assert re.fullmatch(rf"\[virt-reimage: serial console of '{lab.names[index]}', generation {generation}, from [0-9TZ:-]+; "
                        "swap [0-9a-f-]{36}\\]", head), head
    return lines


def last_run(lab):
    run = lab.program.json("history", lab.set_name)["runs"][0]["runId"]
    return run, lab.program.json("history", lab.set_name, "--run", run)


DEVICES = {
    "pty": "<serial type='pty'/>",
    "log": "<serial type='pty'><log file='{log}'/></serial>",
    "fileon": "<serial type='file'><source path='{log}' append='on'/></serial>",
}


@pytest.mark.parametrize("kind", DEVICES)
def test_of_one_that_fails(make, kind):
    """The words of that boot and of no other, wherever it is asked; and they go with its disk."""
    lab = make(kind, DEVICES[kind])
    program, name = lab.program, lab.names[0]
    program("upgrade", lab.set_name, "--version", "9.0.0", status=POLICY)
    lines = kept(lab, 1)
    assert lines.count(BANNER) > 5 and kept(lab, 0) is None
    assert kind == "pty" or lines == [BANNER] * cheap_guest.COUNT  # of a pseudo terminal the first and last bytes may be lost
    run, document = last_run(lab)
    assert [one["console"] for one in document["instances"]] == [lines[-40:]]
    page = program("history", lab.set_name, "--run", run, "--html", "-").out
    assert page.count("<p>The last lines of its serial console:</p>\n<pre tabindex=\"0\">" + "\n".join(lines[-40:]) + "\n</pre>") == 1
    line = f"  {name}: the last line of its console: {lines[-1]} ('virt-reimage instance-view {lab.set_name} {name}' shows more)\n"
    assert line in program("status", lab.set_name).out and line in program("history", lab.set_name, "--run", run).out
    view = program.json("instance-view", lab.set_name, name)
    assert view["console"] == lines[-40:] and view["consoleLog"].endswith("/g1.console.log") and os.path.exists(view["consoleLog"])
    out = program("instance-view", lab.set_name, name).out
    assert re.search(r"^Console: +/.*/g1\.console\.log\n" + "".join(f"  \\| {re.escape(one)}\n" for one in lines[-10:]), out, re.MULTILINE), out
    assert "console" not in program("gc", "--dry-run").out
    program("set-define", "-", stdin=program.model(lab.set_name, lab.names, more="retention: {failedDisks: 0}\n"))
    program("gc", lab.set_name)
    assert kept(lab, 1) is None
    document = last_run(lab)[1]
    assert document["instances"][0]["console"] == []
    assert "serial console" not in program("history", lab.set_name, "--run", run, "--html", "-").out


def test_hostile_bytes_and_a_log_that_leads_elsewhere(make):
    """What reaches a terminal, JSON or the page is text; and a path of the domain is not what root reads if it is no log."""
    lab = make("hostile", DEVICES["fileon"])
    program = lab.program
    hostile = program.image("\x1b]0;gone\x07<script>\x1b[31m\x08\u202ered", name="hostile.qcow2", last_words=True)
    program("image-publish", IMAGE, "9.1.0", hostile)
    program("upgrade", lab.set_name, "--version", "9.1.0", status=POLICY)
    run, document = last_run(lab)
    assert document["instances"][0]["console"] == [SHOWN] * cheap_guest.COUNT
    assert f"{SHOWN.replace('<', '&lt;')}\n</pre>" in program("history", lab.set_name, "--run", run, "--html", "-").out
    for out in (program("status", lab.set_name).out, program("instance-view", lab.set_name, lab.names[0]).out):
        assert SHOWN in out and "\x1b" not in out and "\x07" not in out

    os.rename(lab.fleet[0].console, program.path("secret"))
    os.symlink(program.path("secret"), lab.fleet[0].console)
    program("upgrade", lab.set_name, "--version", "2.0.0")
    assert kept(lab, 2) == ["[virt-reimage: its log file cannot be read: Too many levels of symbolic links]"]
    assert last_run(lab)[1]["instances"][0]["console"] == []  # it is healthy
