# SPDX-License-Identifier: LGPL-2.1-or-later
"""K3: each code that only an answer over HTTP has, produced as a peer meets it. docs/errors.md has their table, and test_errors.py compares it with the program's."""
import concurrent.futures
import glob
import os
import re
import sqlite3

import pytest

from lib import cheap_guest, unix_http
from lib.daemon import Daemon
from program import BINARY, TOP

SHOP = "/virtualMachineScaleSets/shop"
UPGRADE = {"Connection": "Upgrade", "Upgrade": "virt-reimage-command"}


@pytest.fixture(name="daemon")
def fixture_daemon(defined):
    made = Daemon(BINARY + "d", defined.root, uri=defined.uri)
    made.start()
    yield made
    made.clean_up()


def table():
    """{code: status} of docs/errors.md."""
    with open(os.path.join(TOP, "docs/errors.md"), encoding="utf-8") as file:
        return {code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", file.read(), re.MULTILINE)}


def has_begun(word, database):
    """A process with that word has the database open: it no longer dies of a first SIGTERM (docs/daemon.md), as one does that has just been started."""
    for process in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{process}/cmdline", "rb") as words:
                if word.encode() in words.read().split(b"\0") and any(os.path.realpath(fd) == database for fd in glob.glob(f"{process}/fd/*")):
                    return True
        except OSError:  # it has ended
            pass
    return False


def while_it_stops(daemon, root, path):
    """A command that waits for the store keeps it from its end."""
    database = sqlite3.connect(f"{root}/state.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            waits = pool.submit(unix_http.request, path, "POST", f"{SHOP}/auto", {"automatic": "off"})
            cheap_guest.wait_for(lambda: has_begun("set-auto", f"{root}/state.db"), 20, "the command has begun")
            daemon.process.terminate()
            cheap_guest.wait_for(lambda: unix_http.request(path, "GET", "/").json["stopping"], 20, "it is being stopped")
            answers = [unix_http.request(path, "GET", SHOP), unix_http.request(path, "POST", "/commands", None, UPGRADE)]
        finally:
            database.execute("ROLLBACK")
            database.close()
        answer = waits.result()
        assert answer.status == 200 or answer.json["error"]["code"] == "Database", answer.body  # kept from it for longer than it waits
    assert daemon.process.wait(30) == 0
    return answers


def test_each_is_produced(daemon, defined):
    """But for NotReady, which is of the process of a run: tests/orchestrator/test_executor_control.c."""
    rw, ro = daemon.path("virt-reimage.sock"), daemon.path("virt-reimage-ro.sock")
    requests = [
        (rw, "GET", f"{SHOP}?api-version=2015-06-15", None, {}),
        (ro, "POST", f"{SHOP}/retry", None, {}),
        (rw, "DELETE", "/images", None, {}),
        (rw, "POST", f"{SHOP}/retry", b" " * (1024 * 1024 + 1), {}),
        (rw, "POST", "/commands", None, {**UPGRADE, "Virt-Reimage-Root": "/nonexistent"}),
        (rw, "POST", "/commands", None, {}),
    ]
    answers = [unix_http.request(path, method, url, body, headers) for path, method, url, body, headers in requests]
    answers += while_it_stops(daemon, defined.root, rw)
    produced = {answer.error[0]: answer.status for answer in answers}
    assert produced == {code: status for code, status in table().items() if code != "NotReady"}
