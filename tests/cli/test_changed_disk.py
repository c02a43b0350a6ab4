# SPDX-License-Identifier: LGPL-2.1-or-later
"""B18, J6: a domain that names another OS disk than that of its generation: nobody says that it runs that version, and nothing is done to it."""
import os
import re
import subprocess

import pytest

from program import REFUSED


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "changed", batch=50)


def changed(lab):
    return [one["osDiskChanged"] for one in lab.status()["instances"]]


def test_a_swap_is_no_change(lab):
    """What is asked for while a run goes: neither the switch nor the way to its record is taken for somebody's hand."""
    run = lab.program.start("upgrade", lab.set_name, "--version", "2.0.0")
    seen = [changed(lab)]
    while run.poll() is None:
        seen.append(changed(lab))
    assert run.communicate()[1] is not None and run.returncode == 0
    assert len(seen) > 3 and not any(any(one) for one in [*seen, changed(lab)]), seen


def test_a_disk_only_snapshot_is_said_and_is_taken_back_by_what_is_said(lab):
    guest, path = lab.fleet[0], lab.fleet[0].configured_os_disk()
    subprocess.run(["virsh", "snapshot-create-as", guest.name, "--disk-only", "--no-metadata", "--diskspec", "vdb,snapshot=no", "s"], check=True)
    shown = lab.status()
    assert [one["version"] for one in shown["instances"]] == [None, "2.0.0"] and changed(lab) == [True, False]
    assert not shown["instances"][0]["latestModelApplied"] and {"version": None, "instanceCount": 1} in shown["versions"]
    line = next(line for line in lab.program("status", lab.set_name).out.splitlines() if "somebody changed the domain" in line)
    assert f"not {path} of its generation 1" in line
    view = lab.program("instance-view", lab.set_name, guest.name).out
    assert re.search("^Runs: +-$", view, re.MULTILINE) and "not known, its domain names another OS disk" in view
    assert "[os-disk-changed]" in lab.program("plan", lab.set_name, "--version", "3.0.0", status=REFUSED).out
    for words in (["upgrade", lab.set_name, "--version", "3.0.0"], ["rollback", lab.set_name, guest.name], ["reimage", lab.set_name, "--all"]):
        assert "[os-disk-changed]" in lab.program.fails(REFUSED, *words)
    remedy = re.search(r"'(virsh blockcommit [^']+)'", line)[1].split()
    subprocess.run([*remedy, "--wait"], check=True)
    assert guest.configured_os_disk() == path and not any(changed(lab))
    lab.program("rollback", lab.set_name, guest.name)
    assert lab.versions() == {guest.name: "1.0.0", lab.names[1]: "2.0.0"}


def test_a_disk_of_its_own_that_was_moved_is_adopted_where_it_is(lab):
    guest = lab.fleet[0]
    guest.destroy()
    xml, old = guest.domain.XMLDesc(2), guest.configured_os_disk()
    os.rename(old, f"{old}.moved")
    lab.fleet.connection.defineXML(xml.replace(old, f"{old}.moved"))
    guest.start()
    assert changed(lab) == [True, False]
    assert f"adopt SET {guest.name} --version V" in lab.program("status", lab.set_name).out
    lab.program("adopt", lab.set_name, guest.name, "--version", "1.0.0")
    assert not any(changed(lab)) and lab.versions()[guest.name] == "1.0.0"
    lab.program("reimage", lab.set_name, guest.name, "--version", "3.0.0")
    lab.program("rollback", lab.set_name, guest.name)
    assert lab.versions()[guest.name] == "1.0.0" and guest.configured_os_disk() == f"{old}.moved" and guest.is_running()


def test_a_domain_that_is_defined_anew_on_its_old_disk(lab):
    """As by whoever keeps the XML elsewhere. It is put back as the remedy says."""
    guest = lab.fleet[1]
    xml = guest.domain.XMLDesc(2)
    old = lab.program.json("generations", lab.set_name, guest.name)["generations"][0]["path"]
    lab.fleet.connection.defineXML(xml.replace(guest.configured_os_disk(), old))
    assert changed(lab) == [False, True]
    assert "left alone" in lab.program("plan", lab.set_name, "--version", "2.0.0").out
    lab.fleet.connection.defineXML(xml)
    assert not any(changed(lab))
