# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ten real guests in two roles, three zones and five upgrade domains: a person's words to a run, and guests that never become healthy.

A guest that becomes ill on a new version is one whose data that version cannot read: its data disk says so. In order, one test after the other.
"""

import os
from collections import Counter

import pytest

from guest import Guest, wait_until
from proof import assert_same_machines, rebooted
from watch import Watch

# Domain: upgrade domain, role, zone. 20 % of ten are two at once, but 2 and 7 are in two zones, and 4 and 9 are all of a role.
GUESTS = {
    "ten-0": (0, "web", "a"), "ten-5": (0, "web", "a"),
    "ten-1": (1, "web", "b"), "ten-6": (1, "web", "b"),
    "ten-2": (2, "web", "b"), "ten-7": (2, "web", "c"),
    "ten-3": (3, "web", "c"), "ten-8": (3, "web", "c"),
    "ten-4": (4, "db", "a"), "ten-9": (4, "db", "a"),
}
NAMES = sorted(GUESTS)
BATCHES = [{"ten-0", "ten-5"}, {"ten-1", "ten-6"}, {"ten-2"}, {"ten-7"}, {"ten-3", "ten-8"}, {"ten-4"}, {"ten-9"}]
SHORT = "PT30S"  # for the tests that wait for it to pass; two guests at once boot in 7 s on idle cores
TOO_MANY_UPGRADED = "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"
MODEL = """
schemaVersion: 1
name: ten
imageReference: {{name: lab-linux, version: latest}}
upgradeDomainCount: 5
upgradePolicy:
  rollingUpgradePolicy:
    maxBatchInstancePercent: 20
    maxUnhealthyInstancePercent: {unhealthy}
    maxUnhealthyUpgradedInstancePercent: 20
healthProfile:
  applicationHealth: {{protocol: agent, file: /run/health.json, intervalInSeconds: 5}}
  healthTimeout: {timeout}
osDisk: {{kind: overlay, target: vda}}
tempDisks: [vdc]
stop: {{method: agent, timeout: PT30S, force: true}}
instances:
{instances}
"""


def define(lab, unhealthy=20, timeout="PT3M", status=0):
    instances = "\n".join(f"- {{domain: {name}, role: {GUESTS[name][1]}, zone: {GUESTS[name][2]}}}" for name in NAMES)
    model = lab.root.parent / "lab.yaml"
    model.write_text(MODEL.format(unhealthy=unhealthy, timeout=timeout, instances=instances))
    return lab.run("set-define", str(model), status=status)


@pytest.fixture(scope="module", name="lab")
def fixture_lab(ten):
    define(ten)
    domains = {one["domain"]: one["upgradeDomain"] for one in ten.json("status", "ten")["instances"]}
    assert domains == {name: labels[0] for name, labels in GUESTS.items()}
    return ten


# ---- what was seen ----


def inodes(facts):
    """Of the data disks, on this host."""
    return {name: os.stat(one["disks"]["vdb"]).st_ino for name, one in facts.items()}


class Story:
    """Facts of before and after a test's commands, and who was down meanwhile."""

    def __init__(self, lab):
        self.lab, self.before = lab, lab.facts()
        self.data_inodes = inodes(self.before)
        self.watch = Watch([Guest(name) for name in NAMES])

    def __enter__(self):
        self.watch.__enter__()
        return self

    def __exit__(self, *exception):
        self.watch.__exit__()

    def version(self, name):
        return self.before[name]["inside"]["version"]

    def old_disk(self, name):
        return self.before[name]["disks"]["vda"]


def labels_of(names, index):
    return {GUESTS[name][index] for name in names}


def assert_serving(downs, at_once):
    """D1, D8: never more than that, and never all of a role."""
    for down in downs:
        assert len(down) <= at_once, down
        for role in ("web", "db"):
            assert not {name for name in NAMES if GUESTS[name][1] == role} <= down, (role, down)


def assert_together(downs):
    """D7, D9: one upgrade domain and one zone."""
    for down in downs:
        assert len(labels_of(down, 0)) == len(labels_of(down, 2)) == 1, down


def assert_outcome(story, moved=(), restored=(), version=None, overlap=2):
    """`moved` run the version on new disks. `restored` run their old version on the very disk of before. All others were never off: their
    boots, disks and versions are those of before. At most a batch was off, and `overlap` away, counted until they were up."""
    story.lab.settle()
    after = story.lab.facts()
    assert_same_machines(story.before, after)
    assert inodes(after) == story.data_inodes
    assert set(rebooted(story.before, after)) == {*moved, *restored}
    for name in NAMES:
        assert after[name]["inside"]["version"] == (version if name in moved else story.version(name)), name
        assert (after[name]["disks"]["vda"] != story.old_disk(name)) == (name in moved), name
        new_boots = int(after[name]["inside"]["boots"]) - int(story.before[name]["inside"]["boots"])
        assert min(1, story.watch.stops[name]) <= new_boots <= story.watch.stops[name], name  # a boot that was cut counts nothing
    assert story.watch.stops == Counter({**dict.fromkeys(moved, 1), **dict.fromkeys(restored, 2)})
    assert_serving(story.watch.offs, 2)
    assert_together(story.watch.offs)
    assert_serving(story.watch.aways, overlap)


def history(lab, number=0):
    """A run with its instances: the last one, or one before it."""
    return lab.json("history", "ten", "--run", lab.json("history", "ten")["runs"][number]["runId"])


def batches_of(run):
    """The domains of each batch, in the order in which they went."""
    numbers = sorted({one["batch"] for one in run["instances"] if one["batch"]})
    return [{one["domain"] for one in run["instances"] if one["batch"] == number} for number in numbers]


def assert_run(run, code, error=None, **counts):
    assert (run["runningStatus"]["code"], run["error"] and run["error"]["code"]) == (code, error)
    wanted = {**dict.fromkeys(("successful", "failed", "inProgress", "pending", "skipped"), 0), **counts}
    assert run["progress"] == {f"{name}InstanceCount": count for name, count in wanted.items()}


# ---- a person's words ----


def wait_point(lab, point, moved):
    def there():
        run = lab.json("status", "ten")
        return run if run["openRun"] and run["openRun"]["point"] == point else None

    status = wait_until(there, 120, f"the run stands at {point}", interval=0.5)
    assert status["progress"]["successfulInstanceCount"] == moved
    assert not status["locked"] and status["rollbackAllowed"] and status["progress"]["inProgressInstanceCount"] == 0


def assert_others_refused(lab):
    """G11: no second run beside the first, and no change beneath it."""
    for command in (["upgrade", "ten"], ["reimage", "ten", "--all"], ["rollback", "ten", "ten-3"]):
        assert "ends a run at its batch border" in lab.run(*command, status=5).stderr
    define(lab, unhealthy=30, status=5)


def test_walk_pause_and_cancel(lab):
    """Rows D7, D8, D9, F5, G2, G3, G4, G11, B19: upgrade domain 3, then 4 with a pause in it, then 2, cancelled in it."""
    lab.script("publish", "good")
    version = lab.json("status", "ten")["latestVersion"]
    with Story(lab) as story:
        swaps = lab.swaps()
        run = lab.start("upgrade", "ten", "--walk", "--reason", "ten by hand")
        wait_point(lab, "walk", 0)
        lab.run("walk", "ten", "3")
        lab.wait_for_step(run, "ten-8", "stop-asked", swaps)
        wait_point(lab, "walk", 2)

        lab.run("walk", "ten", "4")
        lab.wait_for_step(run, "ten-4", "running", swaps + 2)
        assert_others_refused(lab)
        assert lab.json("status", "ten")["locked"]
        lab.run("pause", "ten")
        wait_point(lab, "paused", 3)
        assert_others_refused(lab)
        lab.run("resume", "ten")
        wait_point(lab, "walk", 4)

        lab.run("walk", "ten", "2")
        lab.wait_for_step(run, "ten-2", "running", swaps + 4)
        lab.run("cancel", "ten")
        assert lab.end(run) == 1
    assert_outcome(story, moved=["ten-3", "ten-8", "ten-4", "ten-9", "ten-2"], version=version)
    assert_together(story.watch.aways)
    done = history(lab)
    assert_run(done, "Cancelled", successful=5, pending=5)
    assert batches_of(done) == [{"ten-3", "ten-8"}, {"ten-4"}, {"ten-9"}, {"ten-2"}]
    assert done["reason"] == "ten by hand"


def test_rollback_in_flight(lab):
    """Rows F4, F5, F12, G5: what the run had moved goes back, and first what is on its way; what it had not is not touched."""
    version = lab.json("status", "ten")["latestVersion"]
    with Story(lab) as story:
        swaps = lab.swaps()
        run = lab.start("upgrade", "ten")
        lab.wait_for_step(run, "ten-6", "running", swaps + 3)
        assert lab.json("status", "ten")["progress"]["successfulInstanceCount"] == 2
        assert "first" in lab.run("rollback", "ten", "--all").stderr
        assert lab.end(run) == 1
    assert_outcome(story, restored=["ten-0", "ten-5", "ten-1", "ten-6"], overlap=4)
    forward, back = history(lab, 1), history(lab)
    assert (forward["operation"], forward["targetImageReference"]["version"]) == ("upgrade", version)
    assert_run(forward, "Cancelled", successful=2, failed=2, pending=1, skipped=5)
    assert back["operation"] == "rollback"
    assert_run(back, "Completed", successful=2, skipped=8)
    assert batches_of(back) == [{"ten-0", "ten-5"}]


# ---- guests that never become healthy ----


def publish_unfit(lab, *names):
    """The next version of the image, a good one, but for these guests."""
    lab.script("publish", "good")
    version = lab.json("status", "ten")["latestVersion"]
    for name in names:
        Guest(name).run("/bin/sh", "-c", f"echo {version} >>/data/unfit-for; sync")
    return version


def assert_restored(run, *names):
    """F1, F12, J6: each was put back, and says why."""
    phases = {one["domain"]: one for one in run["instances"]}
    for name in names:
        assert (phases[name]["phase"], phases[name]["swapState"]) == ("restored", "UNDONE")
        assert phases[name]["reason"] == "not healthy within 30.0 s: /run/health.json says Unhealthy"
    assert run["rollbackInfo"] == {"successfullyRolledbackInstanceCount": len(names), "failedRolledbackInstanceCount": 0}


def stopped(lab, failed):
    """Upgrades, and that stops by policy with this share of failures; returns the error's text."""
    done = lab.run("upgrade", "ten", status=3)
    text = f"{failed} failed, at most 20% may; the most common reason"
    assert TOO_MANY_UPGRADED in done.stderr and text in done.stderr
    return done.stderr


def test_three_never_healthy(lab):
    """Rows D1, D4, F1, J3, J5, J6: one of five is at the limit and passes; three of eight stop the run."""
    define(lab, unhealthy=30, timeout=SHORT)  # one that was put back may still boot, and two more go
    version = publish_unfit(lab, "ten-2", "ten-3", "ten-8")
    with Story(lab) as story:
        text = stopped(lab, "3 of 8 upgraded (37.5%)")
    assert "(3 of 3): not healthy within" in text and "5 upgraded, 3 restored, 2 not touched" in text
    assert_outcome(story, moved=["ten-0", "ten-5", "ten-1", "ten-6", "ten-7"], restored=["ten-2", "ten-3", "ten-8"], version=version,
                   overlap=3)
    run = history(lab)
    assert_run(run, "Faulted", TOO_MANY_UPGRADED, successful=5, failed=3, pending=2)
    assert batches_of(run) == BATCHES[:5]
    assert_restored(run, "ten-2", "ten-3", "ten-8")


def test_one_of_the_first_batch_never_healthy(lab):
    """Rows D1, D4, F1, J5: one of two is half: the run stops, and eight never notice."""
    define(lab, timeout=SHORT)
    version = publish_unfit(lab, "ten-0")
    with Story(lab) as story:
        text = stopped(lab, "1 of 2 upgraded (50%)")
    assert "1 upgraded, 1 restored, 8 not touched" in text
    assert_outcome(story, moved=["ten-5"], restored=["ten-0"], version=version)
    run = history(lab)
    assert_run(run, "Faulted", TOO_MANY_UPGRADED, successful=1, failed=1, pending=8)
    assert batches_of(run) == BATCHES[:1]
    assert_restored(run, "ten-0")


def test_one_late_never_healthy(lab):
    """Rows B1, D1, D4, D7, D8, D9, F1, F10, F12, J5: one of eight, and at the end one of ten, is within the limit: the run goes on and
    completes without it. retry moves it once it is well."""
    version = publish_unfit(lab, "ten-8")
    plan = lab.json("plan", "ten")
    assert [{one["domain"] for one in batch["instances"]} for batch in plan["batches"]] == BATCHES
    with Story(lab) as story:
        done = lab.run("upgrade", "ten", status=6)
    assert "is done, but 1 instance(s) failed, 1 of them were put back" in done.stderr
    assert_outcome(story, moved=[name for name in NAMES if name != "ten-8"], restored=["ten-8"], version=version)
    run = history(lab)
    assert_run(run, "Completed", "RollingUpgradeInProgressWithFailedUpgradedVMs", successful=9, failed=1)
    assert "1 of 10 instances (10%) failed" in run["error"]["message"]
    assert batches_of(run) == BATCHES
    assert_restored(run, "ten-8")

    Guest("ten-8").run("/bin/rm", "/data/unfit-for")
    with Story(lab) as story:
        lab.run("retry", "ten")
    assert_outcome(story, moved=["ten-8"], version=version)
    assert set(lab.versions().values()) == {version}
