# SPDX-License-Identifier: LGPL-2.1-or-later
"""B4, B5, B17, F11: what retention keeps, and gc. The tests follow each other on the same guests."""
import os
import re
import subprocess
import time

import pytest

from program import DONE, FAILED, IMAGE, OWNED, REFUSED, USAGE, crashing_image

DAY = 86400


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "gc", batch=100)


def place(lab, index=0, name=""):
    return os.path.join(lab.program.root, "disks", lab.fleet[index].uuid, name)


def disks(lab, index=0):
    return sorted(name for name in os.listdir(place(lab, index)) if name.endswith(".qcow2"))


def generations(lab, index=0):
    shown = lab.program.json("generations", lab.set_name, lab.names[index])["generations"]
    return {one["generation"]: one for one in shown}


def deleted(answer):
    return sorted((one["domain"], one["generation"]) for one in answer["deleted"])


def make_another(lab, *names):
    lab.program("reimage", lab.set_name, *(names or lab.names))


def test_nothing_is_made_where_there_is_nothing(program):
    for arguments in ([], ["shop"], ["--dry-run"]):
        failed = program("gc", *arguments, status=FAILED)
        assert "nothing was published" in failed.error() and failed.out == ""
    assert not os.path.exists(program.root)


def test_a_run_applies_it_at_its_end(lab):
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    lab.program("upgrade", lab.set_name, "--version", "3.0.0")
    make_another(lab)
    for index in range(2):
        assert disks(lab, index) == ["g1.qcow2", "g2.qcow2", "g3.qcow2"]
    make_another(lab)
    for index, name in enumerate(lab.names):
        assert disks(lab, index) == ["g2.qcow2", "g3.qcow2", "g4.qcow2"]
        assert not os.path.exists(place(lab, index, "g1.xml"))
        assert os.path.exists(lab.fleet[index].os_disk)
        assert generations(lab, index)[1]["state"] == "deleted"
        lab.program("rollback", lab.set_name, name, "--to-generation", "1", status=REFUSED)
    assert lab.versions() == lab.all_on("3.0.0")


def test_generations_says_what_goes_and_when(lab):
    shown = generations(lab)
    assert shown[0]["retention"] == {"goes": False, "goesAt": None, "why": "not of our making"}
    assert shown[1]["sizeOnDiskBytes"] is None
    assert shown[2]["retention"]["why"] == "one of 2 that are kept"
    goes_at = time.strptime(shown[2]["retention"]["goesAt"][:19], "%Y-%m-%dT%H:%M:%S")
    assert 13 < (time.mktime(goes_at) - time.timezone - time.time()) / DAY < 14.1
    assert shown[3]["retention"]["why"] == "'rollback' goes to it"
    assert shown[4]["retention"]["why"] == "the guest's own" and shown[4]["replacedAt"] is None
    assert shown[3]["sizeOnDiskBytes"] > 0 and shown[3]["sealed"] and shown[3]["replacedAt"]
    table = lab.program("generations", lab.set_name, lab.names[0]).out
    assert "deleted" not in table
    assert re.search(r"until \d{4}-.*: one of 2 that are kept", table) and "stays: 'rollback' goes to it" in table


def test_a_dry_run_changes_nothing(lab):
    lab.define(more="retention: {generations: 1, failedDisks: 0}\n")
    with open(place(lab, 0, "notes.txt"), "w", encoding="ascii") as file:
        file.write("precious")
    before = lab.program.snapshot()
    answer = lab.program.json("gc", lab.set_name, "--dry-run")
    assert answer["dryRun"] and deleted(answer) == [(name, 2) for name in lab.names]
    assert answer["unknown"] == [place(lab, 0, "notes.txt")] and answer["kept"] == []
    assert "generation 2 would be deleted" in lab.program("gc", "--dry-run").out
    assert "goes next: 1 others are kept" in lab.program("generations", lab.set_name, lab.names[0]).out
    assert lab.program.snapshot() == before


def test_gc_deletes_and_leaves_what_it_does_not_know(lab):
    text = lab.program("gc", lab.set_name).out
    assert re.search(rf"{lab.names[0]}: generation 2 is deleted, .*iB", text)
    assert "notes.txt is not known here and is left" in text and "2 disks were deleted" in text
    for index in range(2):
        assert disks(lab, index) == ["g3.qcow2", "g4.qcow2"]
    assert os.path.exists(place(lab, 0, "notes.txt"))
    again = lab.program.json("gc", lab.set_name)
    assert again["deleted"] == [] and again["kept"] == []
    assert lab.versions() == lab.all_on("3.0.0")


class Use:
    """Somebody has generation 3 of the first guest."""

    def __init__(self, lab):
        self.lab, self.path = lab, place(lab, 0, "g3.qcow2")

    def overlay(self):
        path = place(self.lab, 0, "look.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", self.path, path], check=True)
        return lambda: os.unlink(path)

    def domain(self):
        domain = self.lab.fleet[1].name
        subprocess.run(["virsh", "-q", "attach-disk", domain, self.path, "vdz", "--mode", "readonly", "--config",
                        "--subdriver", "qcow2"], check=True, capture_output=True)
        return lambda: subprocess.run(["virsh", "-q", "detach-disk", domain, "vdz", "--config"], check=True, capture_output=True)

    def process(self):
        reader = subprocess.Popen(["qemu-io", "-r", "-f", "qcow2", self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True)
        reader.stdin.write("length\n")
        reader.stdin.flush()
        reader.stdout.readline()
        return lambda: reader.communicate("quit\n")


def test_what_is_used_stays(lab):
    """SAFETY invariant 6: an overlay, a domain that is another's, a process."""
    done = Use(lab).overlay()
    ended = lab.program("reimage", lab.set_name, lab.names[0])
    assert disks(lab) == ["g3.qcow2", "g4.qcow2", "g5.qcow2", "look.qcow2"]
    assert "generation 3 stays" in ended.err and "look.qcow2" in ended.err
    for use, word in ((None, "look.qcow2"), (Use(lab).domain, f"is in use by {lab.names[1]} (its domain"), (Use(lab).process, "a process holds it")):
        done = use() if use else done
        try:
            for more in (["--dry-run"], []):
                kept = lab.program.json("gc", *more)["kept"]
                assert [one["generation"] for one in kept] == [3] and word in kept[0]["keptBecause"], kept
        finally:
            done()
    assert deleted(lab.program.json("gc", lab.set_name)) == [(lab.names[0], 3)]


def test_failed_disks(lab):
    """F11: one that did not become healthy is kept for a post-mortem, as many as the model says."""
    lab.define(more="retention: {generations: 1, failedDisks: 1}\n")
    lab.program("image-publish", IMAGE, "4.0.0", crashing_image(lab.program, "4.0.0"))
    for _ in range(2):
        assert lab.program.run("upgrade", lab.set_name, "--version", "4.0.0").status != DONE
    assert lab.versions() == lab.all_on("3.0.0")
    for index in range(2):
        failed = [one for one in generations(lab, index).values() if one["state"] == "failed"]
        assert [one["retention"]["why"] for one in failed] == ["failed, for a post-mortem"]
        assert failed[0]["generation"] == max(generations(lab, index)) and os.path.exists(failed[0]["path"])
    lab.define(more="retention: {generations: 1, failedDisks: 0}\n")
    assert len(lab.program.json("gc", lab.set_name)["deleted"]) == 2
    lab.program("image-exclude", IMAGE, "4.0.0")


def kept_of_ours(lab):
    return sorted(number for number, one in generations(lab).items() if number and one["state"] == "kept")


def keep(lab, count):
    lab.define(more=f"retention: {{generations: {count}, failedDisks: 0}}\n")


def test_one_of_gc_and_a_rollback_wins(lab):
    """By the lock of the set, or in the journal."""
    name, guest = lab.names[0], lab.fleet[0]
    keep(lab, 6)
    for _ in range(4):
        make_another(lab, name)
    for turn in range(2):
        target = kept_of_ours(lab)[0]
        keep(lab, len(kept_of_ours(lab)) - 1)
        verbs = [("gc", ["gc", lab.set_name]), ("rollback", ["rollback", lab.set_name, name, "--to-generation", str(target)])]
        started = [(verb, lab.program.start(*arguments)) for verb, arguments in verbs[::-1 if turn else 1]]
        ends = {verb: (*process.communicate(timeout=90), process.returncode) for verb, process in started}
        went_back = ends["rollback"][2] == DONE
        assert ends["rollback"][2] in (DONE, REFUSED, OWNED) and ends["gc"][2] in (DONE, OWNED), ends
        exists = os.path.exists(place(lab, 0, f"g{target}.qcow2"))
        assert generations(lab)[target]["state"] == ("current" if went_back else "kept" if exists else "deleted"), ends
        assert exists or not went_back
        assert (guest.configured_os_disk() == place(lab, 0, f"g{target}.qcow2")) == went_back
        assert os.path.exists(guest.configured_os_disk()) and guest.is_running()


def test_killed_in_the_middle(lab):
    """B17: the next command finishes or keeps it; nothing is half there."""
    for delay in (0.02, 0.04):
        keep(lab, len(kept_of_ours(lab)) - 1)
        cut = lab.program.start("gc", lab.set_name)
        time.sleep(delay)
        cut.kill()
        cut.communicate()
        lab.program("gc", lab.set_name)
        for number, one in generations(lab).items():
            there = os.path.exists(one["path"]), os.path.exists(place(lab, 0, f"g{number}.xml"))
            assert there == ((False, False) if one["state"] == "deleted" else (True, True)), (number, one)
    lab.program("rollback", lab.set_name, lab.names[1])
    assert lab.versions() == lab.all_on("3.0.0")


def test_what_a_set_left(lab):
    """B21: gc keeps what 'rollback' would go to, as long as nobody says --left; what a domain uses stays even then."""
    told = lab.program("set-undefine", lab.set_name)
    assert "gc --left" in told.out and "'virt-reimage release'" in told.out
    for index, name in enumerate(lab.names):
        current = lab.fleet[index].configured_os_disk()
        assert f"{name} goes on as it is, on {current}, which needs {lab.program.root}/images/{IMAGE}/3.0.0/" in told.out
        for disk in disks(lab, index):
            assert (f"{name}: {place(lab, index, disk)} stays" in told.out) == (place(lab, index, disk) != current)
    before = [disks(lab, index) for index in range(2)]
    assert lab.program.json("gc")["deleted"] == []
    assert [disks(lab, index) for index in range(2)] == before
    lab.program("gc", "shop", "--left", status=USAGE)
    currents = [os.path.basename(guest.configured_os_disk()) for guest in lab.fleet]
    shown = lab.program.json("gc", "--left")
    assert [disks(lab, index) for index in range(2)] == [[current] for current in currents]
    assert all("its domain" in one["keptBecause"] for one in shown["kept"]) and len(shown["kept"]) == 2
    for guest in lab.fleet:
        guest.destroy()
        guest.define()  # with the disk that it had before the product
    assert lab.program("gc").status == DONE and disks(lab, 1) == [currents[1]]
    assert "2 disks were deleted" in lab.program("gc", "--left").out
    assert [disks(lab, index) for index in range(2)] == [[], []]
    assert os.path.exists(place(lab, 0, "notes.txt"))
    assert all(os.path.exists(guest.os_disk) for guest in lab.fleet)
