# SPDX-License-Identifier: LGPL-2.1-or-later
"""What virt-reimaged begins by itself: after a publication, at a window, and what it leaves. H1, H2, H4, G6, decision 5."""
import datetime
import os
import signal
import sqlite3
import time

import pytest

from conftest import PREFIX
from lib import cheap_guest
from lib.application import Applications
from lib.daemon import Daemon
from program import BINARY
from test_automatic import AutoLab

DAEMON = os.path.join(os.path.dirname(BINARY), "virt-reimaged")


class Night:
    """A set of which all run 3.0.0, and a daemon for its store, which a test starts; its wall clock is the test's."""

    def __init__(self, fleet, applications, config="", **policy):
        self.clock = fleet.path("clock")
        self.at(0)
        os.environ["VIRT_REIMAGE_TEST_CLOCK"] = self.clock
        self.lab = AutoLab(fleet, applications, **policy)
        self.program, self.set_name = self.lab.program, self.lab.set_name
        self.program("upgrade", self.set_name)
        self.daemon = Daemon(DAEMON, self.program.root, uri=self.program.uri)
        self.daemon.configure(config)

    def at(self, seconds):
        with open(f"{self.clock}.new", "w", encoding="ascii") as file:
            file.write(str(seconds))
        os.rename(f"{self.clock}.new", self.clock)

    def start(self):
        """It serves, and has looked at what is to begin."""
        looks = self.looks()
        self.daemon.start()
        cheap_guest.wait_for(lambda: self.looks() > looks, 20, "it looks")

    def state(self):
        """While it may change."""
        one, = self.program.json("triggers", self.set_name)["triggers"]
        return one["state"], one["blockedBy"]

    def looks(self):
        return self.daemon.said().count("of the daemon's own: --json triggers")

    def begun(self):
        """How often it has said that an upgrade begins by itself."""
        return self.daemon.said().count("of the daemon's own: upgrade --automatic")

    def looks_again(self):
        """A look that began after this, and what it has led to."""
        looks = self.looks()
        self.daemon.process.send_signal(signal.SIGHUP)
        cheap_guest.wait_for(lambda: self.looks() > looks, 20, "it looks again")
        time.sleep(1)

    def ended(self, count):
        """The runs, newest first, once there are so many of them and none is open."""
        def are_there():
            runs = self.lab.runs()
            return len(runs) >= count and all(run["runningStatus"]["completedTime"] for run in runs)
        cheap_guest.wait_for(are_there, 60, f"run {count} has ended")
        assert len(self.lab.runs()) == count
        return self.lab.runs()

    def publish(self, version):
        """Returns when it could be seen, wall clock."""
        self.program.publish(version)
        return os.stat(os.path.join(self.program.root, "images", "cheap")).st_mtime

    def first_swap(self, run):
        database = sqlite3.connect(f"file:{self.program.root}/state.db?mode=ro", uri=True)
        try:
            return database.execute("SELECT min(steps.at_us) FROM steps JOIN swaps ON swaps.id = steps.swap_id WHERE swaps.run_id = ?",
                                    (run["runId"],)).fetchone()[0] / 1e6
        finally:
            database.close()

    def clean_up(self):
        self.daemon.clean_up()
        os.environ.pop("VIRT_REIMAGE_TEST_CLOCK")


@pytest.fixture(name="make_night")
def fixture_make_night():
    made = []

    def make(count, **policy):
        applications = Applications(count)
        made.append(applications.__exit__)
        fleet = cheap_guest.Fleet(count, f"{PREFIX}-night", version="1.0.0")
        made.append(lambda *_: fleet.clean_up())
        fleet.__enter__()
        fleet.start_all()
        night = Night(fleet, applications, **policy)
        made.append(lambda *_: night.clean_up())
        return night

    yield make
    for undo in reversed(made):
        undo(None, None, None)


def test_begins_when_a_version_is_published(make_night):
    """H1: the first batch begins within seconds of the publication, by the Platform; H2: one time for a version."""
    night = make_night(2)
    night.start()
    seconds = []
    for number, version in enumerate(("4.0.0", "4.0.1", "4.1.0")):
        visible = night.publish(version)
        run = night.ended(number + 2)[0]
        seconds.append(night.first_swap(run) - visible)
        assert run["startedBy"] == "Platform" and run["runningStatus"]["code"] == "Completed"
        assert night.lab.versions() == night.lab.all_on(version)
    print(f"from a publication to its first batch: {', '.join(f'{one:.2f} s' for one in seconds)}")
    assert max(seconds) < 5, seconds
    night.looks_again()
    assert night.begun() == 3 and night.lab.state() == ("nothing", None)
    assert night.program.json("triggers")["daemonRuns"] is False  # this program was told of no daemon


def test_a_store_that_comes_later(make_night):
    """H1: the daemon is there first, and an image that it has never seen."""
    night = make_night(1)
    night.daemon.command[night.daemon.command.index("--root") + 1] = root = os.path.join(night.program.work, "later", "store")
    os.mkdir(os.path.dirname(root))
    os.chmod(os.path.dirname(root), 0o711)
    night.start()
    before = night.looks()
    night.program.root = root
    night.program.publish("1.0.0")
    cheap_guest.wait_for(lambda: night.looks() > before, 10, "it sees the store")
    before = night.looks()
    night.program("image-publish", "other", "1.0.0", night.program.path("1.0.0.qcow2"))
    cheap_guest.wait_for(lambda: night.looks() > before, 10, "it sees the new image")


def test_at_the_window(make_night):
    """H4, H2: published while the window is closed it begins when that opens, by the clock alone."""
    opens = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=30)
    night = make_night(1, more=f'maintenanceWindow: {{schedule: "*-*-* {opens:%H:%M}:{opens:%S} UTC", duration: PT1H}}\n')
    night.start()
    night.publish("4.0.0")
    cheap_guest.wait_for(lambda: night.state() == ("wait", None), 10, "it waits")
    night.looks_again()
    assert night.begun() == 0
    left = opens.timestamp() - time.time()
    night.at(int(left) - 4)  # the clock jumps to some seconds before; the rest goes by itself
    before = time.monotonic()
    night.ended(2)
    assert night.begun() == 1
    assert time.monotonic() - before > 1
    assert night.lab.versions() == night.lab.all_on("4.0.0")


def test_a_jump_over_the_window(make_night):
    """H4: where the clock is set to the middle of the window it is open, and beyond it is not."""
    opens = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=3)
    night = make_night(1, more=f'maintenanceWindow: {{schedule: "*-*-* {opens:%H:%M} UTC", duration: PT1H}}\n')
    night.start()
    night.publish("4.0.0")
    looks = night.looks()
    night.at(5 * 3600)  # beyond
    cheap_guest.wait_for(lambda: night.looks() > looks, 5, "it sees the jump")
    time.sleep(1)
    assert night.begun() == 0 and night.lab.state() == ("wait", None)
    night.at(3 * 3600 + 1800)  # back, into it
    night.ended(2)
    assert night.lab.versions() == night.lab.all_on("4.0.0")


def test_the_clock_is_set(make_night):
    """Invariant 24: where somebody sets the clock of the host, here to what it says, it looks at once."""
    night = make_night(1)
    night.start()
    before = night.daemon.said().count("to be looked at: the clock was set")
    try:
        time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))
    except PermissionError:
        pytest.skip("the clock of this host may not be set")
    cheap_guest.wait_for(lambda: night.daemon.said().count("to be looked at: the clock was set") > before, 5, "it looks")


def test_opt_out(make_night):
    """G6: what is off does not begin; set-auto on begins it within seconds."""
    night = make_night(1)
    night.start()
    night.program("set-auto", night.set_name, "off")
    night.publish("4.0.0")
    night.looks_again()
    assert night.begun() == 0 and night.lab.versions() == night.lab.all_on("3.0.0")
    night.program("set-auto", night.set_name, "on")
    night.ended(2)
    assert night.lab.versions() == night.lab.all_on("4.0.0")


def test_a_version_that_failed(make_night):
    """Decision 5: it is begun once, whatever wakes the daemon, and whichever daemon; the next version goes."""
    night = make_night(1)
    night.lab.any_other_is_bad()
    night.start()
    night.publish("4.0.0")
    assert night.ended(2)[0]["runningStatus"]["code"] == "Faulted"
    night.looks_again()
    assert night.lab.state() == ("blocked", "failed") and night.begun() == 1
    night.daemon.stop()
    night.start()
    night.looks_again()
    assert night.begun() == 1 and len(night.lab.runs()) == 2
    night.lab.all_are_good()
    night.publish("4.0.1")
    assert night.ended(3)[0]["runningStatus"]["code"] == "Completed"


def test_retry_frees_it(make_night):
    """Decision 5: the retry of one guest comes good, and the other one follows by itself."""
    night = make_night(2, batch=50, unhealthy=50, upgrade_domains=2)
    night.lab.any_other_is_bad()
    night.start()
    night.publish("4.0.0")
    assert night.ended(2)[0]["runningStatus"]["code"] == "Faulted"
    night.lab.all_are_good()
    night.program("retry", night.set_name)
    runs = night.ended(4)
    assert [run["startedBy"] for run in runs[:3]] == ["Platform", "User", "Platform"]
    assert night.lab.versions() == night.lab.all_on("4.0.0")


def test_what_is_refused_is_not_begun_again(make_night):
    """No endless row: refused before its start it is tried once."""
    night = make_night(1)
    night.lab.redefine(more="externalResources:\n- {file: /nonexistent}\n")
    night.start()
    night.publish("4.0.0")
    cheap_guest.wait_for(lambda: night.state() == ("blocked", "ended"), 10, "it was tried")
    night.looks_again()
    night.looks_again()
    assert night.begun() == 1 and len(night.lab.runs()) == 1
    assert "could not begin by itself" in night.daemon.said()


def test_a_daemon_that_is_killed(make_night):
    """H1: what it has begun goes on without it, and the next one begins nothing twice."""
    night = make_night(2, batch=50, unhealthy=50, upgrade_domains=2)
    night.start()
    night.publish("4.0.0")
    cheap_guest.wait_for(lambda: night.program.json("status", night.set_name)["openRun"], 20, "a run is open")
    night.daemon.kill()
    night.start()
    run = night.ended(2)[0]
    assert run["runningStatus"]["code"] == "Completed" and run["startedBy"] == "Platform"
    night.looks_again()
    assert night.begun() == 1 and night.lab.versions() == night.lab.all_on("4.0.0")


def test_published_while_no_daemon_ran(make_night):
    """H1: it looks when it begins."""
    night = make_night(1)
    night.publish("4.0.0")
    night.start()
    night.ended(2)
    assert night.lab.versions() == night.lab.all_on("4.0.0")


def test_the_newest_of_two_that_come_at_once(make_night):
    """H1, decision 8: a version that is published in the middle of a run is the next one's; nothing in between is gone to."""
    night = make_night(2, batch=50, unhealthy=50, upgrade_domains=2)
    night.start()
    night.publish("4.0.0")
    cheap_guest.wait_for(lambda: night.program.json("status", night.set_name)["openRun"], 20, "a run is open")
    night.publish("4.0.1")
    night.publish("4.0.2")
    runs = night.ended(3)
    assert [run["targetImageReference"]["version"] for run in runs[:2]] == ["4.0.2", "4.0.0"]
    assert night.lab.versions() == night.lab.all_on("4.0.2")
