# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nights that go by in seconds: H1, H2, H4. Publications in the evening, a window in the night, a daemon that is killed and one that is stopped in
the middle of a run, versions that fail, and at the end no more memory, descriptors and files than in the second night."""
import datetime
import os

import pytest

from lib import cheap_guest
from test_automatic import ON
from test_daemon_triggers import fixture_make_night  # noqa: F401

NIGHTS = 24 if os.environ.get("VR_FULL") == "1" else 3
HOUR, DAY = 3600, 86400


def resident(daemon):
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS:")).split()[1])


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def files(program):
    return sorted(os.path.relpath(os.path.join(folder, name), program.root) for folder, _, names in os.walk(program.root)
                  for name in names if not name.startswith("state.db-"))


class Nights:
    def __init__(self, night):
        self.night, self.lab, self.program, self.daemon = night, night.lab, night.program, night.daemon
        self.runs = 1  # the first one was a person's
        self.measured = []

    def evening(self, number):
        """A version is published, and waits."""
        version = f"{10 + number}.0.0"
        self.night.at(number * DAY)
        begun = self.night.begun()
        self.night.publish(version)
        cheap_guest.wait_for(lambda: self.night.state() == ("wait", None), 20, "it waits for the window")
        self.night.looks_again()
        assert self.night.begun() == begun and len(self.lab.runs()) == self.runs
        return version

    def open_window(self, number):
        self.night.at(number * DAY + HOUR + 60)
        cheap_guest.wait_for(lambda: len(self.lab.runs()) == self.runs + 1, 30, "a run has begun in the window")
        self.runs += 1

    def break_in(self):
        """Somebody kills the daemon while the run is open, and the next one is stopped: each time the next one goes on with what there is."""
        assert self.lab.status()["openRun"]
        self.daemon.kill()
        self.night.start()
        assert self.lab.status()["openRun"]
        assert self.daemon.stop() == 0
        assert self.lab.status()["openRun"]["point"] == "interrupted"
        self.night.start()

    def morning(self, number, status):
        """The run has ended, nothing else begins, and what nobody needs goes."""
        run = self.night.ended(self.runs)[0]
        assert (run["runningStatus"]["code"], run["startedBy"]) == (status, "Platform"), run["error"]
        self.night.at(number * DAY + 3 * HOUR)
        self.night.looks_again()
        assert len(self.lab.runs()) == self.runs and self.lab.state()[0] != "due"
        self.program("image-prune", "cheap", "--keep", "2")
        self.program("gc")
        self.night.looks_again()
        self.measured.append((resident(self.daemon), descriptors(self.daemon), len(files(self.program))))

    def good(self, number, break_in):
        self.lab.all_are_good()
        version = self.evening(number)
        self.open_window(number)
        if break_in:
            self.break_in()
        self.morning(number, "Completed")
        assert self.lab.versions() == self.lab.all_on(version) and self.lab.state() == ("nothing", None)

    def bad(self, number):
        """One guest is tried, and goes back; the version is not begun again."""
        before = self.lab.versions()
        self.lab.any_other_is_bad()
        self.evening(number)
        self.open_window(number)
        self.morning(number, "Faulted")
        assert self.lab.versions() == before and self.lab.state() == ("blocked", "failed")
        self.lab.all_are_good()
        self.night.at((number + 1) * DAY + HOUR + 60)  # the next window, and still that version: not again
        self.night.looks_again()
        assert len(self.lab.runs()) == self.runs


@pytest.mark.skipif(NIGHTS < 3, reason="three at least")
def test_nights(make_night):  # noqa: F811
    """H1, H2, H4, decision 5"""
    opens = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    night = make_night(2, batch=50, unhealthy=50, upgrade_domains=2, policy=ON + "  bakeTime: PT5S\n",
                       more="retention: {generations: 1, failedDisks: 0}\n"
                            f'maintenanceWindow: {{schedule: "*-*-* {opens:%H:%M} UTC", duration: PT1H}}\n')
    # with AddressSanitizer what was freed would stay, and grow
    night.daemon.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
    night.start()
    nights = Nights(night)
    for number in range(NIGHTS):
        if number % 3 == 1:
            nights.bad(number)
        else:
            nights.good(number, break_in=number == 0)
    print(f"{NIGHTS} nights; resident KiB, descriptors and files in each morning: {nights.measured}")
    second, last = nights.measured[1], nights.measured[-1]
    assert last[0] <= second[0] * 1.1, nights.measured
    assert last[1:] == second[1:], (nights.measured, files(night.program))
