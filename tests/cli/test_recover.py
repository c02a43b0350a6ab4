# SPDX-License-Identifier: LGPL-2.1-or-later
"""B17, B19: recover on real guests: the health timeout goes on, domains that are gone, owners that are stopped, three runs."""
import os
import signal
import socket
import sqlite3
import time

import pytest

from lib import cheap_guest
from program import FAILED, OWNED, PERSON, REFUSED


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "rec", batch=50)


def begin_upgrade(lab, version, *options):
    """A run that has its first guest on the new disk and asks for its health."""
    run = lab.program.start("upgrade", lab.set_name, "--version", version, *options)
    for line in run.stdout:
        if "probing" in line:
            return run
    raise AssertionError(run.stderr.read())


def kill(run):
    run.kill()
    run.communicate()


def cut(lab, version, *options):
    kill(begin_upgrade(lab, version, *options))


def end(run, timeout=60):
    out, err = run.communicate(timeout=timeout)
    assert "Sanitizer" not in err, err
    return run.returncode, out, err


def is_writing(program):
    database = sqlite3.connect(f"{program.root}/state.db", timeout=0.1, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        database.execute("ROLLBACK")
        return False
    except sqlite3.OperationalError:
        return True
    finally:
        database.close()


def wait_stopped(lab, run):
    """Stopped, and not in the middle of a write: then it would keep everybody out of state.db (tests/base/test_db.c)."""
    def stopped():
        with open(f"/proc/{run.pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "T"

    def stopped_at_rest():
        run.send_signal(signal.SIGSTOP)
        cheap_guest.wait_for(stopped, 10, "the run is stopped")
        if not is_writing(lab.program):
            return True
        run.send_signal(signal.SIGCONT)
        return False
    cheap_guest.wait_for(stopped_at_rest, 10, "the run is stopped and writes nothing")


def events(program, kind):
    database = sqlite3.connect(f"file:{program.root}/state.db?mode=ro", uri=True)
    try:
        return [text for (text,) in database.execute("SELECT text FROM events WHERE kind = ? ORDER BY seq", (kind,))]
    finally:
        database.close()


def is_settled(lab):
    assert "nothing is open" in lab.program("recover", lab.set_name).out
    assert lab.status()["openSwapCount"] == 0


# --- health -----------------------------------------------------------------------------------------


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_health_timeout_goes_on(make_lab):
    """Twenty seconds after the guest began to run they are over, whoever counts them."""
    lab = make_lab(1, "reclate")
    model = lab.program.model(lab.set_name, lab.names, labels={lab.names[0]: f'address: "127.0.0.1:{closed_port()}"'},
                              health="applicationHealth: {protocol: http, port: 1, requestPath: /}, ")
    lab.program("set-define", "-", stdin=model)
    cut(lab, "2.0.0")
    time.sleep(14)
    begun = time.monotonic()
    told = lab.program("recover", lab.set_name).err
    spent = time.monotonic() - begun
    assert "not healthy within 20.0 s" in told and "put back on generation 0" in told
    assert spent < 15, spent  # 6 s are left of the 20, then it is put back
    assert lab.versions() == lab.all_on("1.0.0")
    assert any("the domain names the new disk: it goes forward" in text for text in events(lab.program, "recovering"))
    lab.define()
    cut(lab, "2.0.0")
    time.sleep(21)  # healthy, and too late: it stays
    assert "committed" in lab.program("recover", lab.set_name).err
    assert lab.versions() == lab.all_on("2.0.0")


# --- what recover says ------------------------------------------------------------------------------


def test_it_says_what_it_found_and_did(lab):
    cut(lab, "2.0.0")
    would = lab.program("recover", lab.set_name, "--dry-run").out
    assert "would be brought to STARTED on generation 1, and its health judged" in would
    lab.program("recover", lab.set_name)
    moved = [name for name, version in lab.versions().items() if version == "2.0.0"]
    assert len(moved) == 1
    shown = lab.program.json("instance-view", lab.set_name, moved[0])["lastRecovery"]
    assert "brought to STARTED" in shown["text"] and "committed" in shown["text"] and shown["time"]
    assert "Recovered" in lab.program("instance-view", lab.set_name, moved[0]).out
    lab.program("rollback", lab.set_name, moved[0])
    assert lab.versions() == lab.all_on("1.0.0")


def test_the_third_run_changes_nothing(lab):
    """Of a guest that somebody gave a third disk: it stays UNKNOWN, and recover says what to look at and type."""
    cut(lab, "3.0.0")
    shown = lab.status()
    (name,) = [one["domain"] for one in shown["instances"] if one["lastSwap"] and one["lastSwap"]["state"] == "STARTED"]
    guest = lab.fleet[lab.names.index(name)]
    ours = guest.configured_os_disk()
    third = guest.os_disk + ".third"
    xml = guest.domain.XMLDesc(2)  # inactive
    guest.domain.connect().defineXML(xml.replace(ours, third))
    told = []
    for _ in range(3):
        before = lab.program.snapshot()
        told.append(lab.program("recover", lab.set_name, status=PERSON).err)
    assert lab.program.snapshot() == before and told[1] == told[2]
    assert f"virsh dumpxml --inactive {name}" in told[2] and ours in told[2] and f"virt-reimage recover {lab.set_name}" in told[2]
    assert "UNKNOWN" in lab.program("recover", lab.set_name, "--dry-run").out
    guest.domain.connect().defineXML(xml)
    assert "committed" in lab.program("recover", lab.set_name).err
    is_settled(lab)
    lab.program("rollback", lab.set_name, name)


# --- a domain that is gone --------------------------------------------------------------------------


def test_forget(make_lab):
    lab = make_lab(2, "recgone", batch=50)
    program, name = lab.program, lab.set_name
    cut(lab, "2.0.0")
    (gone,) = [one["domain"] for one in lab.status()["instances"] if one["lastSwap"]]
    guest = lab.fleet[lab.names.index(gone)]
    old_xml = guest.xml()
    cheap_guest.remove_domain(guest.domain)
    told = program("recover", name, status=PERSON).err
    assert f"recover {name} --forget {gone}" in told and "virsh define" in told
    assert "would be forgotten" in program("recover", name, "--forget", gone, "--dry-run").out
    assert "no swap of 'nobody' is open" in program("recover", name, "--forget", "nobody", status=FAILED).err
    guest.domain = guest.fleet.connection.defineXML(old_xml.replace(guest.os_disk, guest.os_disk + ".third"))
    assert "is not forgotten" in program("recover", name, "--forget", gone, status=REFUSED).err
    cheap_guest.remove_domain(guest.domain)
    files = sorted(os.listdir(f"{program.root}/disks/{guest.uuid}"))
    assert "is forgotten" in program("recover", name, "--forget", gone).out
    assert sorted(os.listdir(f"{program.root}/disks/{guest.uuid}")) == files
    is_settled(lab)
    kept = {one["generation"]: one["state"] for one in program.json("generations", name, gone)["generations"]}
    assert kept == {0: "current", 1: "failed"}
    assert any("a person's word" in text for text in events(program, "forgotten"))
    guest.domain = guest.fleet.connection.defineXML(old_xml)  # it comes back on its old disk: its slot is free
    guest.start()
    program("upgrade", name, "--version", "2.0.0")
    assert lab.versions() == lab.all_on("2.0.0")


# --- owners -----------------------------------------------------------------------------------------


def test_a_stopped_owner_is_named_and_goes_on(lab):
    run = begin_upgrade(lab, "2.0.0")
    wait_stopped(lab, run)
    line = lab.program("recover", lab.set_name, status=OWNED).error()
    assert f"(pid {run.pid}, by " in line and "is stopped" in line and f"kill -CONT {run.pid}" in line
    assert f"kill -KILL {run.pid}" in lab.program("recover", lab.set_name, "--dry-run").out
    run.send_signal(signal.SIGCONT)
    status, _, err = end(run)
    assert status == 0, err
    assert lab.versions() == lab.all_on("2.0.0")
    assert not events(lab.program, "took-over") or f"pid {run.pid}" not in events(lab.program, "took-over")[-1]
    is_settled(lab)


def test_a_killed_owner_is_taken_over_from(lab):
    run = begin_upgrade(lab, "3.0.0")
    wait_stopped(lab, run)
    kill(run)
    told = lab.program("recover", lab.set_name).err
    assert f"taken over from upgrade {lab.set_name} (pid {run.pid}, by " in told and "without giving it back" in told
    assert f"pid {run.pid}" in events(lab.program, "took-over")[-1]
    is_settled(lab)
    assert list(lab.versions().values()).count("3.0.0") == 1


def test_an_owner_without_its_lock_wakes_fenced(lab):
    """Somebody removes the lock file of a run that is stopped: another takes over, and what wakes up changes nothing."""
    run = begin_upgrade(lab, "3.0.0")
    wait_stopped(lab, run)
    os.unlink(f"{lab.program.root}/locks/{lab.set_name}")
    told = lab.program("recover", lab.set_name).err
    assert "lock file had been removed" in told and "committed" in told
    before = lab.program.snapshot()
    domains = [(guest.domain.ID(), guest.domain.XMLDesc(2)) for guest in lab.fleet]
    run.send_signal(signal.SIGCONT)
    status, _, err = end(run)
    assert status != 0 and "another owner" in err
    assert lab.program.snapshot() == before
    assert [(guest.domain.ID(), guest.domain.XMLDesc(2)) for guest in lab.fleet] == domains
    assert lab.versions() == lab.all_on("3.0.0")
    is_settled(lab)
