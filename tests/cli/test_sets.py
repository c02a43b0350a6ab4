# SPDX-License-Identifier: LGPL-2.1-or-later
"""K2: models are defined, shown and forgotten; wrong ones change nothing. A14, B21, D7."""
import fcntl
import os
import struct

import pytest

from conftest import PREFIX
from program import FAILED, IMAGE, NO_LIBVIRT, OWNED, REFUSED, USAGE, Program


def names(fleet):
    return [guest.name for guest in fleet]


class Owner:
    """Another run: holds the lock of a set as the program does (an OFD lock on ROOT/locks/SET)."""

    def __init__(self, program, set_name, line="upgrade of a test (pid 1)"):
        os.makedirs(os.path.join(program.root, "locks"), exist_ok=True)
        self.file = open(os.path.join(program.root, "locks", set_name), "w+", encoding="utf-8")
        self.file.write(line)
        self.file.flush()
        fcntl.fcntl(self.file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()


def test_define_list_info_dump(defined, fleet):
    model = defined.model("shop", names(fleet), upgrade_domains=2)
    assert defined("set-dump", "shop").out == model
    (listed,) = defined.json("set-list")["sets"]
    assert listed["name"] == "shop" and listed["instanceCount"] == 3 and listed["lastRunCode"] is None
    info = defined.json("set-info", "shop")
    assert [one["upgradeDomain"] for one in info["instances"]] == [0, 1, 0]
    assert [one["uuid"] for one in info["instances"]] == [guest.uuid for guest in fleet]
    assert info["rollingUpgradePolicy"]["maxUnhealthyUpgradedInstancePercent"] == 20
    out = defined("set-info", "shop").out
    assert all(name in out for name in names(fleet))
    assert "shop" in defined("set-list").out


def test_define_again_keeps_upgrade_domains(defined, fleet):
    reordered = defined.write("shop.yaml", defined.model("shop", names(fleet)[::-1], upgrade_domains=2))
    defined("set-define", reordered)
    info = defined.json("set-info", "shop")
    assert {one["domain"]: one["upgradeDomain"] for one in info["instances"]} == dict(zip(names(fleet), [0, 1, 0]))


def test_an_instance_may_be_named_by_uuid(defined, fleet):
    defined("set-define", "-", stdin=defined.model("shop", [fleet[0].uuid]))
    assert defined.json("set-info", "shop")["instances"][0]["domain"] == fleet[0].name
    assert defined("instance-view", "shop", fleet[0].uuid)


def test_an_image_that_is_not_there_yet_is_only_a_warning(program, fleet):
    result = program("set-define", "-", stdin=program.model("shop", names(fleet)))
    assert "warning: " in result.err and IMAGE in result.err
    assert "defined" in result.out


def test_an_image_named_by_publisher_offer_and_sku(program, fleet):
    program("image-publish", IMAGE, "1.0.0", program.image("1.0.0"), "--publisher", "local", "--offer", "o", "--sku", "1")
    image = '{publisher: local, offer: o, sku: "1", version: latest}'
    result = program("set-define", "-", stdin=program.model("shop", names(fleet), image=image))
    assert "warning" not in result.err
    assert program.json("plan", "shop")["targetImageReference"] == {
        "name": IMAGE, "publisher": "local", "offer": "o", "sku": "1", "version": "1.0.0"}


def test_undefine_leaves_guests_as_they_are(defined, fleet):
    before = [guest.domain.XMLDesc(2) for guest in fleet]
    snapshot = defined.snapshot()
    assert "would be undefined" in defined("set-undefine", "shop", "--dry-run").out
    assert defined.snapshot() == snapshot
    out = defined("set-undefine", "shop").out
    assert out.count("goes on as it is") == 3
    assert defined.json("set-list")["sets"] == []
    assert [guest.domain.XMLDesc(2) for guest in fleet] == before
    assert "set-define" in defined("set-info", "shop", status=FAILED).error()


def test_dry_runs_of_define_and_adopt(published, fleet):
    before = published.snapshot()
    published("set-define", "-", "--dry-run", stdin=published.model("shop", names(fleet)))
    assert published.snapshot() == before
    published("set-define", "-", stdin=published.model("shop", names(fleet)))
    before = published.snapshot()
    published("adopt", "shop", fleet[0].name, "--version", "1.0.0", "--dry-run")
    assert published.snapshot() == before


def test_adopt_records_generation_0_where_it_lies(defined, fleet):
    """A6, A7, A14: only a version of the gallery will do."""
    guest = fleet[0]
    defined("adopt", "shop", guest.name, "--version", "1.0.0")
    (found,) = defined.json("generations", "shop", guest.name)["generations"]
    assert found["generation"] == 0 and found["version"] == "1.0.0" and found["state"] == "current"
    assert found["path"] == guest.os_disk and not found["ours"]
    defined("adopt", "shop", guest.name, "--version", "2.0.0")
    assert defined.json("status", "shop")["instances"][0]["version"] == "2.0.0"
    defined.fails(FAILED, "adopt", "shop", guest.name, "--version", "9.9.9")
    defined.fails(USAGE, "adopt", "shop", guest.name)
    defined.fails(FAILED, "adopt", "shop", "cli-stranger", "--version", "1.0.0")


def test_plan_says_what_forbids_a_swap(defined, fleet):
    model = defined.model("shop", names(fleet)).replace("target: vda", "target: vdz")
    defined("set-define", "-", stdin=model)
    result = defined("--json", "plan", "shop", status=REFUSED)
    assert {finding["severity"] for finding in result.json["findings"]} == {"blocker"}
    assert {finding["domain"] for finding in result.json["findings"]} == set(names(fleet))
    assert "blocker: " in defined("plan", "shop", status=REFUSED).out


# --- wrong input: its own error, its exit status, nothing changed ------------------------------------------


def test_a_model_with_an_unknown_key(defined, fleet):
    model = defined.model("shop", names(fleet), more="frobnicate: 1\n")
    path = defined.write("shop.yaml", model)
    line = defined.fails(USAGE, "set-define", path)
    number = model.splitlines().index("frobnicate: 1") + 1
    assert f"shop.yaml:{number}:" in line and "frobnicate" in line


def test_a_model_that_is_no_model(defined):
    for text in ("", "name: [", "\x00", "- a\n- b\n", "name: shop\n"):
        defined.fails(USAGE, "set-define", "-", stdin=text)
    defined.fails(FAILED, "set-define", "/nonexistent/shop.yaml")


def test_a_domain_that_does_not_exist(defined, fleet):
    model = defined.model("shop", [*names(fleet), "cli-stranger"])
    line = defined.fails(FAILED, "set-define", "-", stdin=model)
    assert "cli-stranger" in line and f":{len(model.splitlines())}:" in line


def test_a_guest_belongs_to_one_set(defined, fleet):
    refused = defined("set-define", "-", stdin=defined.model("other", names(fleet)), status=REFUSED)
    assert "'shop'" in refused.error() and "'virt-reimage set-undefine shop'" in refused.err


def test_a_plan_says_what_is_down_and_what_stays_off(published, fleet):
    """D22: one instance that runs means that its service is down; one that is off has none, and nothing shows whether its new disk boots."""
    published("set-define", "-", stdin=published.model("shop", names(fleet)))
    assert "warning: 3 guests are off, and stay off: " in published("plan", "shop").out
    published("set-undefine", "shop")
    published("set-define", "-", stdin=published.model("shop", names(fleet)[:1]))
    out = published("plan", "shop").out
    assert f"warning: {fleet[0].name} is off, and stays off: " in out and "service is down" not in out
    fleet[0].start()
    try:
        out = published("plan", "shop").out
        assert "stays off" not in out and "warning: the set has one instance: its service is down" in out
        assert "one instance" in " ".join(published.json("plan", "shop")["warnings"])
    finally:
        fleet[0].domain.destroy()


@pytest.mark.parametrize("arguments", [
    ["upgrade", "shop"], ["reimage", "shop", "--all"], ["apply", "shop", "--all"], ["rollback", "shop", "--all"], ["set-undefine", "shop"],
    ["recover", "shop"], ["adopt", "shop", f"{PREFIX}-sets-0", "--version", "1.0.0"]])
def test_a_set_that_another_run_owns(defined, arguments):
    """B19: the holder is named; reading goes on."""
    with Owner(defined, "shop"):
        assert "upgrade of a test" in defined.fails(OWNED, *arguments)
        status = defined.json("status", "shop")
        assert status["locked"] and status["lockHolder"] == "upgrade of a test (pid 1)"
    assert not defined.json("status", "shop")["locked"]


def test_libvirtd_not_running(defined, fleet):
    model = defined.model("shop", names(fleet))
    for arguments in (["upgrade", "shop"], ["plan", "shop"], ["set-undefine", "shop"], ["recover", "shop"],
                      ["set-define", "-"]):
        line = defined.fails(FAILED, "-c", NO_LIBVIRT, *arguments, stdin=model)
        assert "libvirt" in line


def test_status_without_libvirt_says_what_it_knows(defined, fleet):
    result = defined("-c", NO_LIBVIRT, "--json", "status", "shop")
    assert {one["powerState"] for one in result.json["instances"]} == {"unknown"}
    assert "note: " in result.err and "libvirt" in result.err
    defined("-c", NO_LIBVIRT, "instance-view", "shop", fleet[0].name)
    defined("-c", NO_LIBVIRT, "history", "shop")


@pytest.mark.parametrize("command", ["status", "plan", "upgrade", "history", "set-dump", "set-info", "recover"])
def test_a_set_that_is_not_there(defined, command):
    assert "shop" in defined.fails(FAILED, command, "shpo")


def test_nothing_defaults_to_all_instances(defined, fleet):
    """I3"""
    for command in ("reimage", "apply", "rollback"):
        assert "--all" in defined.fails(USAGE, command, "shop")
        defined.fails(USAGE, command, "shop", fleet[0].name, "--all")
    defined.fails(USAGE, "rollback", "shop", fleet[0].name, "--run", "x")
    defined.fails(FAILED, "rollback", "shop", "--all", "--run", "x")
    defined.fails(FAILED, "reimage", "shop", "cli-stranger")


def test_rollback_of_a_guest_that_was_never_swapped(defined, fleet):
    assert "never swapped" in defined.fails(REFUSED, "rollback", "shop", fleet[0].name)
    assert "generation 7" in defined.fails(REFUSED, "rollback", "shop", fleet[0].name, "--to-generation", "7")
    assert "nothing to undo" in defined.fails(REFUSED, "rollback", "shop", "--all")
    assert "from 0" in defined.fails(USAGE, "rollback", "shop", fleet[0].name, "--to-generation", "-1")


def test_reimage_needs_to_know_the_version(defined, fleet):
    assert "adopt" in defined.fails(REFUSED, "reimage", "shop", fleet[0].name)
    defined("adopt", "shop", fleet[0].name, "--version", "1.0.0")
    defined("adopt", "shop", fleet[1].name, "--version", "2.0.0")
    plan = defined.json("reimage", "shop", fleet[0].name, fleet[1].name, "--dry-run")
    assert plan["targetImageReference"] is None
    assert {one["domain"]: one["targetVersion"] for batch in plan["batches"] for one in batch["instances"]} == {
        fleet[0].name: "1.0.0", fleet[1].name: "2.0.0"}
    line = defined.fails(REFUSED, "reimage", "shop", "--all")
    assert fleet[2].name in line and "--version" in line


def test_doctor_changes_nothing(defined):
    before = defined.snapshot()
    answer = defined.json("doctor")
    assert answer["fit"] and {"libvirt", "kvm", "qemu-img", "libguestfs", "xorriso", "io_uring", "reflink", "space", "security"} <= {
        check["check"] for check in answer["checks"]}
    assert defined.snapshot() == before
    assert all(line.startswith(("ok    ", "warn  ")) for line in defined("doctor").out.splitlines())
    unfit = defined("-c", NO_LIBVIRT, "doctor", status=FAILED)
    assert unfit.out.startswith("fail  libvirt")


def test_a_store_of_another_program_is_refused(work):
    program = Program(os.path.join(work, "store"), work)
    os.mkdir(program.root, 0o711)
    with open(os.path.join(program.root, "state.db"), "wb") as file:
        file.write(b"not a database" * 100)
    assert "state.db" in program("set-list", status=FAILED).error()
