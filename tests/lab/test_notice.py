# SPDX-License-Identifier: LGPL-2.1-or-later
"""Notices to real Linux guests through their agents (rows H7, H8): busy up to the limit, a cancel in the wait, an early approval."""

import json
import time

import pytest

from proof import rebooted

NOTICE = "/run/virt-reimage-notice.json"
NAME = "test-2"


@pytest.fixture(name="define", scope="module")
def fixture_define(lab, tmp_path_factory):
    """Defines the set with these keys of the notice; without it when the module is done."""
    model = (lab.root.parent / "lab.yaml").read_text()
    with_notice = tmp_path_factory.mktemp("model") / "notice.yaml"

    def define(keys):
        profile = f"scheduledEventsProfile: {{osImageNotificationProfile: {{enable: true, {keys}}}}}\n"
        with_notice.write_text(profile + model)
        lab.run("set-define", str(with_notice))

    lab.settle()
    yield define
    lab.run("set-define", str(lab.root.parent / "lab.yaml"))


def events(lab):
    return json.loads(lab.guest(NAME).read(NOTICE))["Events"]


def event_when_told(lab, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        if "notice given" in (state(lab)["reason"] or ""):
            return events(lab)[0]
        time.sleep(0.2)
    raise AssertionError("no notice")


def state(lab):
    """The guest in the last run."""
    run = lab.json("history", "test")["runs"][0]["runId"]
    return next(one for one in lab.json("history", "test", "--run", run)["instances"] if one["domain"] == NAME)


def test_busy_up_to_the_limit(lab, define):
    """H8: it stays as it is, and says with what it was busy."""
    define("notBeforeTimeout: PT1S, busyFile: /run/busy, busyLimit: PT3S")
    before = lab.facts()
    lab.guest(NAME).run("/bin/sh", "-c", "echo 'two users' > /run/busy")
    done = lab.run("reimage", "test", NAME, status=4)
    assert "was not free within 3.0 s: busy: two users" in done.stderr
    assert rebooted(before, lab.facts()) == []
    assert events(lab) == []
    lab.guest(NAME).run("/bin/rm", "/run/busy")


def test_cancel_in_the_wait(lab, define):
    """H7, G2: the first Ctrl-C takes the notice back."""
    define("notBeforeTimeout: PT1H")
    before = lab.facts()
    process = lab.start("reimage", "test", NAME)
    event = event_when_told(lab, process)
    assert (event["EventType"], event["EventStatus"], event["Resources"]) == ("Reimage", "Scheduled", [NAME])
    lab.interrupt(process)
    assert lab.end(process, timeout=30) == 1
    assert events(lab) == []
    assert rebooted(before, lab.facts()) == []
    assert lab.open_swaps() == 0


def test_early_approval(lab, define):
    """H7: the guest lets the wait of an hour end."""
    define("notBeforeTimeout: PT1H, approvalFile: /run/approval.json")
    before = lab.facts()
    process = lab.start("reimage", "test", NAME)
    event = event_when_told(lab, process)
    approval = json.dumps({"StartRequests": [{"EventId": event["EventId"]}]})
    lab.guest(NAME).run("/bin/sh", "-c", f"echo '{approval}' > /run/approval.json")
    assert lab.end(process) == 0
    lab.settle()
    assert rebooted(before, lab.facts()) == [NAME]
