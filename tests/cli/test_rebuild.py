# SPDX-License-Identifier: LGPL-2.1-or-later
"""B17: recover --rebuild. state.db is lost; domains and the store say what runs and what is kept."""
import glob
import os
import shutil

import pytest

from lib import cheap_guest
from program import FAILED, OWNED, PERSON, REFUSED, USAGE, events
from test_recover import begin_upgrade, kill


@pytest.fixture(name="lab")
def fixture_lab(make_lab, request):
    """Two guests on their second generation of ours."""
    lab = make_lab(2, f"reb{abs(hash(request.node.name)) % 10000}")
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    lab.program("upgrade", lab.set_name, "--version", "3.0.0")
    return lab


def lose(program):
    for path in glob.glob(f"{program.root}/state.db*"):
        os.unlink(path)


def kept(lab, name):
    """What is known of each generation, but for what cannot be known without the journal."""
    keys = ("generation", "path", "format", "state", "version", "sealed")
    rows = lab.program.json("generations", lab.set_name, name)["generations"]
    return [{key: row[key] for key in keys} for row in rows]


def without_version_of_zero(rows):
    return [dict(row, version=None) if row["generation"] == 0 else row for row in rows]


def define(lab):
    lab.program("set-define", "-", stdin=lab.program.model(lab.set_name, lab.names))


def directory(lab, index):
    return f"{lab.program.root}/disks/{lab.fleet[index].uuid}"


def rebuild(lab, *options, **more):
    return lab.program("recover", "--rebuild", *options, **more)


def test_what_was_is_again(lab):
    program, (first, second) = lab.program, lab.names
    before = {name: without_version_of_zero(kept(lab, name)) for name in lab.names}
    model = program("set-dump", lab.set_name).out
    lose(program)
    for command in (["status", lab.set_name], ["upgrade", lab.set_name], ["recover", lab.set_name]):
        assert "recover --rebuild" in program(*command, status=FAILED).err
    seen = program.snapshot()
    would = rebuild(lab, "--dry-run").out
    assert f"{first} (" in would and "would be restored" in would and program.snapshot() == seen
    told = rebuild(lab).out
    assert f"{second} ({lab.fleet[1].uuid}) of set {lab.set_name} is restored" in told
    assert f"define {lab.set_name} again with 'virt-reimage set-define FILE'" in told
    assert "which version generation 0 is, is not known" in told
    program("set-define", "-", stdin=model)
    assert {name: kept(lab, name) for name in lab.names} == before
    assert lab.versions() == lab.all_on("3.0.0")
    seen = program.snapshot()
    again = rebuild(lab).out  # a second one has nothing to do
    assert "2 instances are known to state.db" in again and "nothing is to be restored" in again
    assert program.snapshot() == seen
    program("rollback", lab.set_name, first, "--to-generation", "1")
    program("rollback", lab.set_name, second, "--to-generation", "0")
    lab.fleet[0].wait_boot("2.0.0")
    lab.fleet[1].wait_boot("1.0.0")
    assert lab.fleet[1].configured_os_disk() == lab.fleet[1].os_disk
    program("upgrade", lab.set_name, "--version", "3.0.0")
    assert [row["generation"] for row in kept(lab, second)] == [0, 1, 2, 3]  # no number is used again
    assert any("from the domain and the store" in text for text in events(program, "rebuilt"))


def test_a_guest_that_went_back_to_its_first_disk(lab):
    """Its record says generation 0; one whose swap was put back has no record at all, and its files say which set it is of."""
    name = lab.names[0]
    lab.program("rollback", lab.set_name, name, "--to-generation", "0")
    guest = lab.fleet[1]
    guest.destroy()
    xml = guest.domain.XMLDesc(2)
    guest.domain.connect().defineXML(xml[:xml.index("<metadata>")] + xml[xml.index("</metadata>") + len("</metadata>"):])
    lose(lab.program)
    rebuild(lab)
    define(lab)
    assert [row["state"] for row in kept(lab, name)] == ["current", "kept", "kept"]
    assert [row["state"] for row in kept(lab, lab.names[1])] == ["kept", "kept", "current"]


def test_what_is_not_as_we_leave_it_is_not_gone_back_to(lab):
    """Another owner, another mode, an XML of another generation, a base that is gone, a disk that is gone: each is said."""
    first, second = directory(lab, 0), directory(lab, 1)
    os.chmod(f"{first}/g1.qcow2", 0o644)
    shutil.copyfile(f"{second}/g2.xml", f"{second}/g1.xml")
    lose(lab.program)
    told = rebuild(lab).out
    assert "generation 1 is not restored as one to go back to: its owner is 0 and its mode 0644" in told
    assert "g1.xml is of another generation" in told
    define(lab)
    for name in lab.names:
        assert [row["state"] for row in kept(lab, name)] == ["kept", "failed", "current"]
        assert "failed" in lab.program("rollback", lab.set_name, name, "--to-generation", "1", status=REFUSED).err
    lose(lab.program)
    os.unlink(f"{first}/g1.qcow2")
    os.rename(f"{lab.program.root}/images/cheap/2.0.0", f"{lab.program.root}/images/cheap/2.0.1")
    told = rebuild(lab).out
    assert "generation 1 is not restored as one to go back to: its disk is gone" in told
    assert "images/cheap/2.0.0/disk.qcow2, is gone" in told
    define(lab)
    assert [row["state"] for row in kept(lab, lab.names[0])] == ["kept", "discarded", "current"]


def test_what_does_not_agree_is_for_a_person(lab):
    """A domain that runs on what its XML does not name, one that is gone, one whose record says something else: nothing is guessed."""
    first, second = lab.fleet
    ours = first.configured_os_disk()
    xml = first.domain.XMLDesc(2)
    first.domain.connect().defineXML(xml.replace("g2.qcow2", "g1.qcow2"))
    cheap_guest.remove_domain(second.domain)
    lose(lab.program)
    told = rebuild(lab, status=PERSON)
    assert "its OS disk is that of generation 1, but its metadata says generation 2" in told.out
    assert f"libvirt has no domain of this UUID; its files in {directory(lab, 1)} stay as they are" in told.out
    assert "1 instance is not restored" in told.err
    first.domain.connect().defineXML(xml.replace("g2.qcow2", "g1.qcow2").replace('generation="2"', 'generation="1"')
                                     .replace("generation='2'", "generation='1'"))
    assert f"it runs on {ours}, but its XML names" in rebuild(lab, status=PERSON).out
    first.domain.connect().defineXML(xml)
    assert "is restored" in rebuild(lab).out
    assert os.path.exists(f"{directory(lab, 1)}/g2.qcow2")


def test_it_is_for_a_lost_journal_only(lab):
    program = lab.program
    seen = program.snapshot()
    assert "2 instances are known" in rebuild(lab).out and program.snapshot() == seen
    program("recover", "--rebuild", lab.set_name, status=USAGE)
    program("recover", "--forget", lab.names[0], status=USAGE)
    run = begin_upgrade(lab, "2.0.0")
    try:
        lose(program)  # under a run: the set is locked, and the new journal does not get round that
        assert f"(pid {run.pid}" in rebuild(lab, status=OWNED).err
    finally:
        kill(run)
    assert "is restored" in rebuild(lab).out
