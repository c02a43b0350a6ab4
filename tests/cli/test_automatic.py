# SPDX-License-Identifier: LGPL-2.1-or-later
"""What begins by itself: triggers, set-auto, upgrade --automatic. H1, H2, G6, A14, J4, decision 5."""
import datetime
import json
import os
import re
import signal
import subprocess

import pytest

from lib import cheap_guest
from lib.application import Applications
from lib.daemon import Daemon
from program import BINARY, DONE, FAILED, PARTIAL, POLICY, REFUSED, USAGE, Program, events
from conftest import PREFIX, Lab

HEALTH_TIMEOUT_S = 20  # of every model here
ON = "  automaticOSUpgradePolicy: {enableAutomaticOSUpgrade: true}\n"
AUTO = ("upgrade", "--automatic")


class AutoLab(Lab):
    """A lab whose guests have applications that are asked, with a store of its own for each test: guests go back to 1.0.0."""

    def __init__(self, fleet, applications, **policy):
        self.applications = applications
        self.keys = {**applications.model([guest.name for guest in fleet]), "policy": ON, **policy}
        super().__init__(fleet, **self.keys)

    def trigger(self):
        one, = self.program.json("triggers", self.set_name)["triggers"]
        assert {key: self.status()["trigger"][key] for key in ("state", "version", "at", "reason", "blockedBy")} == {
            key: one[key] for key in ("state", "version", "at", "reason", "blockedBy")}  # H2
        return one

    def state(self):
        one = self.trigger()
        return one["state"], one["blockedBy"]

    def auto(self, status=DONE, **options):
        return self.program(*AUTO, self.set_name, status=status, **options)

    def runs(self):
        return self.program.json("history", self.set_name)["runs"]

    def any_other_is_bad(self):
        """On any disk but the one that it has now a guest's application is not well."""
        for application, guest in zip(self.applications, self.fleet):
            application.is_healthy = lambda guest=guest, good=guest.configured_os_disk(): guest.configured_os_disk() == good

    def all_are_good(self):
        for application in self.applications:
            application.is_healthy = lambda: True

    def redefine(self, **policy):
        self.keys.update(policy)
        self.define(**self.keys)


@pytest.fixture(name="lab")
def fixture_lab():
    """Two guests on 1.0.0 and a gallery with 3.0.0."""
    with Applications(2) as applications, cheap_guest.Fleet(2, f"{PREFIX}-auto", version="1.0.0") as fleet:
        fleet.start_all()
        yield AutoLab(fleet, applications)


@pytest.fixture(name="one")
def fixture_one():
    """The same with one guest, for what needs no second."""
    with Applications(1) as applications, cheap_guest.Fleet(1, f"{PREFIX}-auto1", version="1.0.0") as fleet:
        fleet.start_all()
        yield AutoLab(fleet, applications)


def test_due_then_nothing(lab):
    """H1, H2, J4, G9: to the newest version, by the Platform, and then there is nothing until the next one; the mode is Manual."""
    one = lab.trigger()
    assert (one["state"], one["version"], one["at"]) == ("due", "3.0.0", None)
    assert "By itself:" in lab.program("status", lab.set_name).out
    assert re.search(f"^{lab.set_name} +due +3.0.0 +- +2 of its", lab.program("triggers").out, re.MULTILINE)
    lab.auto()
    assert lab.versions() == lab.all_on("3.0.0")
    run, = lab.runs()
    assert (run["startedBy"], run["userName"]) == ("Platform", None)
    told = lab.program.json("notices", lab.set_name)["notices"]
    assert [one["startedBy"] for one in told] == ["Platform"] * 3
    azure, = lab.program("history", lab.set_name, "--azure").json["value"]
    assert azure["properties"]["startedBy"] == "Platform"
    assert " itself " in lab.program("history", lab.set_name).out
    assert lab.state() == ("nothing", None)
    assert "2 of its instances run 3.0.0" in lab.program.fails(REFUSED, *AUTO, lab.set_name)
    lab.program.publish("3.0.1")
    assert (lab.trigger()["state"], lab.trigger()["version"]) == ("due", "3.0.1")
    lab.program("image-exclude", "cheap", "3.0.1")
    lab.program("image-exclude", "cheap", "3.0.0")  # never lower
    assert lab.state() == ("nothing", None) and "2 on a newer version" in lab.trigger()["reason"]
    lab.program.fails(REFUSED, *AUTO, lab.set_name)


def test_a_person_is_user(one):
    """J4"""
    one.program("upgrade", one.set_name)
    assert one.runs()[0]["startedBy"] == "User" and one.runs()[0]["userName"]


def test_set_auto(one):
    """G6: at any time, also while a run is open; a person's upgrade works all the same; in set-info, set-list, the audit."""
    program, name = one.program, one.set_name
    out = program("set-auto", name, "off", "--reason", "sale").out
    assert "automatic upgrades are off" in out and one.state() == ("off", None)
    assert "set-auto" in program.fails(REFUSED, *AUTO, name)
    assert re.search("^Automatic: +off, by 'set-auto' since .*: sale$", program("set-info", name).out, re.MULTILINE)
    assert [each["automaticOSUpgrade"] for each in program.json("set-list")["sets"]] == [False]
    assert program.json("status", name)["trigger"]["byCommandReason"] == "sale"
    one.redefine()
    assert one.state() == ("off", None)
    before = program.snapshot()
    assert "would be on" in program("set-auto", name, "on", "--dry-run").out
    assert program.snapshot() == before
    program("upgrade", name, "--version", "2.0.0")
    assert one.versions() == one.all_on("2.0.0")
    program("set-auto", name, "model")
    assert one.state() == ("due", None)
    assert re.search("^Automatic: +on, as the model says$", program("set-info", name).out, re.MULTILINE)
    assert [re.sub(", by .*?(: |$)", "|", text) for text in events(program, "set-auto")] == [
        "automatic upgrades off|sale", "automatic upgrades as the model says|"]
    assert "neither on nor off" in program.fails(USAGE, "set-auto", name, "maybe")
    assert "no set 'nobody'" in program.fails(FAILED, "set-auto", "nobody", "on")


def test_opt_out_during_a_run(one):
    """G6: nobody waits for the run, which goes on; and no second one follows."""
    program, name = one.program, one.set_name
    one.redefine(policy=ON + "  approval: true\n")
    program(*AUTO, name, "--detach")
    assert one.state() == ("blocked", "run") and "began by itself, is open: nothing was touched: 'approve' begins" in one.trigger()["reason"]
    told = program("set-auto", name, "off")
    assert f"'virt-reimage cancel {name}' ends it" in told.err and one.state() == ("off", None)
    program("set-auto", name, "on")
    program("cancel", name)
    cheap_guest.wait_for(lambda: program.json("status", name)["openRun"] is None, 20, "the run ends")
    assert one.state() == ("blocked", "ended")
    assert "ended as Cancelled" in program.fails(REFUSED, *AUTO, name)


def test_on_needs_health(one):
    """E7, G6"""
    one.define()  # without an application that is asked, and without enableAutomaticOSUpgrade
    assert one.state() == ("off", None)
    assert "applicationHealth" in one.program.fails(REFUSED, "set-auto", one.set_name, "on")


def test_words_of_a_person_are_refused(one):
    """An upgrade that begins by itself is one that the model describes."""
    for option in (["--version", "2.0.0"], ["--role", "web"], ["--walk"], ["--replace"], ["--no-auto-rollback"],
                   ["--canary", one.names[0]], ["--ignore", "outside-url"]):
        assert option[0] in one.program.fails(USAGE, *AUTO, one.set_name, *option)


def test_dry_run(one):
    before = one.program.snapshot()
    assert one.names[0] in one.program(*AUTO, one.set_name, "--dry-run").out
    assert one.program.snapshot() == before


def test_unknown_version(lab):
    """A14: a guest of which nobody knows what it runs is left alone until a person has said it, or moved it."""
    program, name = lab.program, lab.set_name
    program("set-undefine", name)
    with cheap_guest.Fleet(1, f"{PREFIX}-auto2", version="1.0.0") as other:
        other.start_all()
        stranger = other[0].name
        labels = {**lab.keys["labels"], stranger: lab.keys["labels"][lab.names[0]]}
        program("set-define", "-", stdin=program.model(name, [stranger], **{**lab.keys, "labels": labels}))
        assert lab.state() == ("blocked", "unknownVersion")
        assert "adopt" in program.fails(REFUSED, *AUTO, name)
        program("set-define", "-", stdin=program.model(name, [*lab.names, stranger], **{**lab.keys, "labels": labels}))
        assert lab.state() == ("due", None) and "1 of unknown version" in lab.trigger()["reason"]
        lab.auto()
        seen = {each["domain"]: each["version"] for each in lab.status()["instances"]}
        assert seen == {**lab.all_on("3.0.0"), stranger: None}
        assert lab.state() == ("nothing", None)
        program("upgrade", name)  # the first by a person's word
        program.publish("4.0.0")
        lab.auto()
        assert {each["version"] for each in lab.status()["instances"]} == {"4.0.0"}
        program("set-undefine", name)


def test_failed_version_is_blocked(lab):
    """Decision 5: until 'retry' came good, or a newer version; an edit of the model and set-auto are not enough."""
    program, name = lab.program, lab.set_name
    lab.any_other_is_bad()
    lab.redefine(batch=50, unhealthy=50)
    lab.auto(status=POLICY)
    assert lab.state() == ("blocked", "failed")
    program.fails(REFUSED, *AUTO, name)
    lab.redefine(more="retention: {generations: 3}\n")
    program("set-auto", name, "on")
    assert lab.state() == ("blocked", "failed")
    assert len(lab.runs()) == 1
    lab.all_are_good()
    program("retry", name)
    assert lab.state() == ("due", None)  # the instance that had no turn
    lab.auto()
    assert lab.versions() == lab.all_on("3.0.0")
    lab.any_other_is_bad()
    program.publish("4.0.0")
    lab.auto(status=POLICY)
    assert lab.state() == ("blocked", "failed")
    lab.all_are_good()
    program.publish("4.0.1")
    assert lab.trigger()["version"] == "4.0.1" and lab.state() == ("due", None)
    lab.auto()
    assert lab.versions() == lab.all_on("4.0.1")


def test_partly_done_is_not_begun_again(lab):
    """No endless row of runs: one that ended with an instance restored has been."""
    broken = lab.applications[1]
    broken.is_healthy = lambda: False
    policy = "    maxUnhealthyUpgradedInstancePercent: 100\n"
    model = lab.program.model(lab.set_name, lab.names, **lab.keys).replace("    maxUnhealthyUpgradedInstancePercent: 20\n", policy)
    lab.program("set-define", "-", stdin=model)
    lab.auto(status=PARTIAL)
    assert sorted(lab.versions().values()) == ["1.0.0", "3.0.0"]
    assert lab.state() == ("blocked", "ended")
    broken.is_healthy = lambda: True
    lab.program.fails(REFUSED, *AUTO, lab.set_name)
    lab.program("set-auto", lab.set_name, "on")
    assert lab.state() == ("due", None)


def test_taken_back_is_not_begun_again(one):
    """A person who went back is not overruled; until set-auto on, or a newer version."""
    one.program("upgrade", one.set_name)
    one.program("rollback", one.set_name, "--all")
    assert one.state() == ("blocked", "takenBack")
    one.program.fails(REFUSED, *AUTO, one.set_name)
    one.program("set-auto", one.set_name, "on")
    assert one.state() == ("due", None)
    one.auto()
    one.program("rollback", one.set_name, "--all")
    assert one.state()[0] == "blocked"
    one.program.publish("3.0.1")
    assert one.state() == ("due", None)


def test_taken_back_by_an_upgrade_is_not_begun_again(one):
    """A person's upgrade to a lower version is a way back, too: nobody finds the newest one there again ten minutes later."""
    one.program("upgrade", one.set_name)
    one.program("upgrade", one.set_name, "--version", "2.0.0")
    assert one.versions() == one.all_on("2.0.0")
    assert one.state() == ("blocked", "takenBack")
    assert "went back from 3.0.0" in one.program.fails(REFUSED, *AUTO, one.set_name)
    one.program("set-auto", one.set_name, "on")
    assert one.state() == ("due", None)


def test_cancelled_by_a_person(one):
    """A person's upgrade that a person has cancelled is not begun by itself either; an edit of the model frees it."""
    program, name = one.program, one.set_name
    one.redefine(policy=ON + "  approval: true\n")
    program("upgrade", name, "--detach")
    assert one.state() == ("blocked", "run")
    program("cancel", name)
    cheap_guest.wait_for(lambda: program.json("status", name)["openRun"] is None, 20, "the run ends")
    assert one.state() == ("blocked", "ended")
    one.redefine(policy=ON)
    assert one.state() == ("due", None)
    one.auto()
    assert one.versions() == one.all_on("3.0.0")


def test_refused_before_the_start(one):
    """Is tried once; why not is kept and shown. set-auto on lets it begin again."""
    program, name = one.program, one.set_name
    one.redefine(more="externalResources:\n- {file: /nonexistent}\n")
    assert "/nonexistent" in one.auto(status=REFUSED).error()
    assert one.state() == ("blocked", "ended") and "/nonexistent" in one.trigger()["reason"]
    assert "/nonexistent" in program.fails(REFUSED, *AUTO, name)
    assert one.runs() == []
    assert [text for text in events(program, "automatic") if "it was refused" in text]
    one.redefine()  # the same text again: nothing was changed
    assert one.state() == ("blocked", "ended")
    program("set-auto", name, "on")
    assert one.state() == ("due", None)
    one.redefine(more="")
    one.auto()
    assert one.versions() == one.all_on("3.0.0")


def test_killed(one):
    """A run whose process was killed is closed by the next command, and not begun again by itself."""
    one.any_other_is_bad()
    before = one.fleet[0].configured_os_disk()
    run = one.program.start(*AUTO, one.set_name)
    cheap_guest.wait_for(lambda: one.fleet[0].configured_os_disk() != before, 60, "the guest has its new disk")
    run.send_signal(signal.SIGKILL)
    run.communicate()
    one.all_are_good()
    one.program.run("recover", one.set_name)
    assert one.state()[0] in ("blocked", "nothing")
    one.program.fails(REFUSED, *AUTO, one.set_name)
    assert len(one.runs()) == 1


def test_killed_before_its_run(one):
    """That it was tried is written first."""
    one.redefine(policy=ON + "  gate: [/bin/sh, -c, 'kill -9 $PPID']\n")
    assert one.program.run(*AUTO, one.set_name).status == -signal.SIGKILL
    assert one.state()[0] == "blocked"
    one.program.run("recover", one.set_name)
    assert one.state() == ("blocked", "ended")


def test_pinned(one):
    """'latest' only: a version that the model names is a person's."""
    one.redefine(image="{name: cheap, version: 2.0.0}")
    assert one.state() == ("blocked", "pinned")
    one.program("upgrade", one.set_name)
    assert one.state() == ("nothing", None)


def test_at_the_window(one, monkeypatch):
    """H2, H3, H4: it waits for the maintenance window, status says until when, and it is due once that is open."""
    clock = one.program.write("clock", "0")
    monkeypatch.setenv("VIRT_REIMAGE_TEST_CLOCK", clock)
    opens = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0, second=0) + datetime.timedelta(hours=2)
    one.redefine(more="maintenanceWindow: {schedule: '*-*-01 00:00 UTC', duration: PT15M}\n")  # what "monthly" means, in a zone
    month = (opens.replace(day=1) + datetime.timedelta(days=31)).replace(day=1, hour=0, minute=0)
    assert one.trigger()["at"] in (None, f"{month:%Y-%m-%dT00:00:00}.000Z")
    window = f'maintenanceWindow: {{schedule: "*-*-* {opens:%H:%M} UTC", duration: PT30M}}\n'
    one.redefine(more=window)
    waits = one.trigger()
    assert (waits["state"], waits["version"], waits["at"]) == ("wait", "3.0.0", f"{opens:%Y-%m-%dT%H:%M:%S}.000Z")
    assert "wait until " in one.program("status", one.set_name).out
    assert "maintenance window" in one.program.fails(REFUSED, *AUTO, one.set_name)
    one.program.write("clock", "7230")
    assert one.state() == ("due", None)
    one.program.write("clock", "9100")
    assert one.state() == ("wait", None)
    one.program.write("clock", "93700")  # the next day
    assert one.state() == ("due", None)
    one.auto()
    assert one.versions() == one.all_on("3.0.0")


def test_just_after_a_boot(one):
    """E7: guests that are still starting would be taken for ill, and the version would have had its one try."""
    with open("/proc/uptime", encoding="ascii") as uptime:
        since_s = int(float(uptime.read().split()[0]))
    words = ["unshare", "--time", "--fork", "--boottime"]

    def booted(seconds, *command):
        return subprocess.run([*words, str(seconds - since_s), *one.program.command(*command)], env=one.program.environment,
                              capture_output=True, text=True, check=False)

    shown, = json.loads(booted(5, "triggers", one.set_name, "--json").stdout)["triggers"]
    assert shown["state"] == "wait" and "has just booted" in shown["reason"]
    assert 0 < (datetime.datetime.fromisoformat(shown["at"]) - datetime.datetime.now(datetime.timezone.utc)).total_seconds() <= HEALTH_TIMEOUT_S
    early = booted(5, *AUTO, one.set_name)
    assert early.returncode == REFUSED and "has just booted" in early.stderr and one.runs() == []
    shown, = json.loads(booted(HEALTH_TIMEOUT_S + 5, "triggers", one.set_name, "--json").stdout)["triggers"]
    assert shown["state"] == "due"


def test_what_define_and_plan_say(one):
    """H2: what begins; and where no daemon runs, that nothing does."""
    told = one.program("set-define", "-", stdin=one.program.model(one.set_name, one.names, **one.keys))
    assert "by itself: due: 1 of its instances are moved to 3.0.0" in told.out
    assert "virt-reimaged does not run on this host" in told.err
    assert any("virt-reimaged does not run" in text for text in one.program.json("plan", one.set_name)["warnings"])
    assert one.program.json("triggers")["daemonRuns"] is False


def test_a_daemon_of_another_store(one, work):
    """H2: there is one on this host, and it begins nothing here; one that hangs is spoken of, too."""
    daemon = Daemon(BINARY + "d", os.path.join(work, "elsewhere"))
    try:
        asking = Program(one.program.root, one.program.work, one.program.uri, daemon.start().dir)
        assert asking.json("triggers")["daemonRuns"] is False
        assert any("virt-reimaged serves another store" in text for text in asking.json("plan", one.set_name)["warnings"])
        daemon.process.send_signal(signal.SIGSTOP)
        assert "virt-reimaged does not answer" in asking("set-auto", one.set_name, "on").err
        assert not daemon.jobs()
    finally:
        daemon.clean_up()


def test_a_model_that_cannot_be_read(one):
    """It blocks its own set, and not the view of the others."""
    import sqlite3
    database = sqlite3.connect(f"{one.program.root}/state.db")
    with database:
        database.execute("INSERT INTO sets (name, text, defined_us) VALUES ('newer', 'name: newer\nnewer: 1\n', 1)")
    database.close()
    states = {each["set"]: (each["state"], each["blockedBy"]) for each in one.program.json("triggers")["triggers"]}
    assert states == {"newer": ("blocked", "model"), one.set_name: ("due", None)}
