# SPDX-License-Identifier: LGPL-2.1-or-later
"""B17: recover on real guests: the health timeout goes on, domains that are gone, three runs."""
import os
import socket
import time

import pytest

from lib import cheap_guest
from program import FAILED, PERSON, REFUSED, events


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "rec", batch=50)


def begin_upgrade(lab, version, *options):
    """A run that has its first guest on the new disk and asks for its health."""
    run = lab.program.start("upgrade", lab.set_name, "--version", version, *options)
    run.wait_line("probing")
    return run


def kill(run):
    run.kill()
    run.communicate()


def cut(lab, version, *options):
    kill(begin_upgrade(lab, version, *options))


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
