# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs on real guests: upgrade, reimage, rollback and what is shown of them.

A11, B1-B4, B15, D1, D18, F1, F10-F12, G1, I1, I2, J1-J6, J10, J11. The tests of a class share its guests and follow each other;
each leaves all guests on one version.
"""
import os
import stat

import pytest

from program import DONE, FAILED, POLICY, REFUSED, content_of, crashing_image


def generation(lab, name):
    return next(one["generation"] for one in lab.status()["instances"] if one["domain"] == name)


def data_disks(lab):
    """B2: path, inode and content of each."""
    return [(path, os.stat(path).st_ino, content_of(path)) for guest in lab.fleet for path, _, _ in guest.data]


def last_run(lab):
    return lab.program.json("history", lab.set_name)["runs"][0]


class TestGoodVersions:
    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(3, "good")

    def test_dry_run_and_plan_change_nothing(self, lab):
        before = lab.program.snapshot()
        plan = lab.program.json("plan", lab.set_name, "--version", "2.0.0")
        dry = lab.program.json("upgrade", lab.set_name, "--version", "2.0.0", "--dry-run")
        assert {**dry, "space": None} == {**plan, "space": None}
        lab.program("upgrade", lab.set_name, "--dry-run")
        lab.program("reimage", lab.set_name, "--all", "--dry-run")
        assert lab.program.snapshot() == before
        (batch,) = plan["batches"]
        assert [one["domain"] for one in batch["instances"]] == lab.names
        assert {(one["currentVersion"], one["targetVersion"], one["powerState"]) for one in batch["instances"]} == {
            ("1.0.0", "2.0.0", "running")}
        assert plan["targetImageReference"]["version"] == "2.0.0" and plan["skipped"] == []
        assert "power state only" in " ".join(plan["warnings"])

    def test_upgrade(self, lab):
        data = data_disks(lab)
        result = lab.program("--json", "upgrade", lab.set_name, "--version", "2.0.0", "--reason", "a test")
        events = [line["event"] for line in result.lines]
        assert events[0] == "run" and events[-1] == "end" and "batch" in events
        end = result.lines[-1]["run"]
        assert end["runningStatus"]["code"] == "Completed"
        assert end["progress"]["successfulInstanceCount"] == 3
        assert end["startedBy"] == "User" and end["reason"] == "a test"
        assert lab.versions() == lab.all_on("2.0.0")
        for guest in lab.fleet:
            guest.wait_boot("2.0.0", boots=2)
        assert data_disks(lab) == data

    def test_upgrade_of_those_that_are_there_is_done(self, lab):
        before = lab.program.snapshot()
        assert "2.0.0 already" in lab.program("upgrade", lab.set_name, "--version", "2.0.0").out
        assert lab.program.snapshot() == before

    def test_views_in_json(self, lab):
        status = lab.status()
        assert status["versions"] == [{"version": "2.0.0", "instanceCount": 3}]
        assert status["runningStatus"]["code"] == "Completed" and status["error"] is None
        assert status["runningStatus"]["startTime"] < status["runningStatus"]["completedTime"]
        assert status["rollbackAvailable"] and not status["rollbackAllowed"] and not status["locked"]
        assert status["targetImageReference"]["version"] == "2.0.0"
        view = lab.program.json("instance-view", lab.set_name, lab.names[0])
        assert view["generation"] == 1 and view["powerState"] == "running" and not view["latestModelApplied"]
        assert view["lastSwap"]["state"] == "COMMITTED" and view["lastSwap"]["times"]["offMs"] > 0
        assert [one["state"] for one in view["generations"]] == ["kept", "current"]
        run = lab.program.json("history", lab.set_name, "--run", status["runId"])
        assert [one["phase"] for one in run["instances"]] == ["committed"] * 3
        assert run["times"]["offMs"]["count"] == 3
        assert run["times"]["offMs"]["p50"] <= run["times"]["offMs"]["p95"] <= run["times"]["offMs"]["max"]

    def test_views_for_people(self, lab):
        out = lab.program("status", lab.set_name).out
        assert "2.0.0 on 3" in out and "Completed" in out
        out = lab.program("history", lab.set_name, "--run", last_run(lab)["runId"]).out
        assert "p50" in out and "p95" in out and "OS DOWN" in out
        out = lab.program("instance-view", lab.set_name, lab.names[1]).out
        assert "generation 0 to 1: COMMITTED" in out
        assert "upgrade to cheap 2.0.0" in lab.program("history", lab.set_name).out

    def test_rollback_of_one_and_forward_again(self, lab):
        name = lab.names[1]
        before = lab.program.snapshot()
        lab.program("rollback", lab.set_name, name, "--dry-run")
        assert lab.program.snapshot() == before
        lab.program("rollback", lab.set_name, name)
        assert lab.versions() == {**lab.all_on("2.0.0"), name: "1.0.0"}
        kept = {one["generation"]: one for one in lab.program.json("generations", lab.set_name, name)["generations"]}
        assert kept[1]["sealed"] and stat.S_IMODE(os.stat(kept[1]["path"]).st_mode) == 0o400
        assert "nothing to go back to" in lab.program.fails(REFUSED, "rollback", lab.set_name, name)
        lab.program("rollback", lab.set_name, name, "--to-generation", "1")
        assert lab.versions() == lab.all_on("2.0.0") and generation(lab, name) == 1

    def test_reimage_to_the_current_version(self, lab):
        """It does not die of a reader that has had enough."""
        name = lab.names[0]
        run = lab.program.start("reimage", lab.set_name, name)
        assert "reimage to cheap 2.0.0" in run.stdout.readline()
        run.stdout.close()
        assert (run.wait(timeout=60), run.stderr.read()) == (DONE, "")
        assert lab.versions() == lab.all_on("2.0.0") and generation(lab, name) == 2
        run = last_run(lab)
        assert run["operation"] == "reimage" and run["progress"]["skippedInstanceCount"] == 2

    def test_an_excluded_version_is_refused(self, lab):
        lab.program("image-exclude", "cheap", "3.0.0", "--reason", "bad")
        line = lab.program.fails(REFUSED, "upgrade", lab.set_name, "--version", "3.0.0")
        assert "image-include cheap 3.0.0" in line and "bad" in line
        lab.program.fails(REFUSED, "reimage", lab.set_name, "--all", "--version", "3.0.0")
        assert "2.0.0 already" in lab.program("upgrade", lab.set_name).out
        lab.program("image-include", "cheap", "3.0.0")

    def test_rollback_all_undoes_a_run_and_again(self, lab):
        lab.program("upgrade", lab.set_name)
        assert lab.versions() == lab.all_on("3.0.0")
        assert all(one["latestModelApplied"] for one in lab.status()["instances"])
        upgrade = last_run(lab)["runId"]
        lab.program("rollback", lab.set_name, "--all")
        assert lab.versions() == lab.all_on("2.0.0")
        assert {name: generation(lab, name) for name in lab.names} == dict(zip(lab.names, [2, 1, 1]))
        before = lab.program.snapshot()
        assert "already" in lab.program("rollback", lab.set_name, "--all", "--run", upgrade).out
        assert "already" in lab.program("rollback", lab.set_name, "--all").out  # a rollback is not what it undoes
        assert lab.program.snapshot() == before

    def test_one_further_back(self, lab):
        name = lab.names[0]  # 2.0.0 twice: generation 2 replaced 1, which replaced 0
        lab.program("rollback", lab.set_name, name)
        assert generation(lab, name) == 1
        lab.program("rollback", lab.set_name, name)
        assert generation(lab, name) == 0

    def test_undefine_says_what_stays(self, lab):
        out = lab.program("set-undefine", lab.set_name).out
        assert out.count("goes on as it is, on") == 3 and "stays, generation" in out


class TestPins:
    """A11: the set and single instances stay on the version that the model names, newer, older or previous."""

    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(3, "pin")

    def define(self, lab, version="latest", **pins):
        pins = {lab.names[int(key[1:])]: pin for key, pin in pins.items()}
        lab.program("set-define", "-", stdin=lab.program.model(lab.set_name, lab.names, pins=pins,
                                                               image=f"{{name: cheap, version: {version}}}"))

    def test_a_pinned_instance_is_left_alone(self, lab):
        program, (first, second, third) = lab.program, lab.names
        self.define(lab, i1="1.0.0")
        plan = program.json("plan", lab.set_name)
        (skipped,) = plan["skipped"]
        assert skipped["domain"] == second and skipped["reason"] == "pinned to 1.0.0 by the model"
        assert skipped["pinnedVersion"] == "1.0.0" == skipped["targetVersion"]
        assert [one["pinnedVersion"] for one in plan["batches"][0]["instances"]] == [None, None]
        assert f"left alone: {second}: pinned to 1.0.0 by the model" in program("plan", lab.set_name).out
        program("upgrade", lab.set_name)
        assert lab.versions() == {first: "3.0.0", second: "1.0.0", third: "3.0.0"}
        assert [one["latestModelApplied"] for one in lab.status()["instances"]] == [True, True, True]
        assert "1.0.0, pinned" in program("status", lab.set_name).out
        assert program.json("instance-view", lab.set_name, second)["pinnedVersion"] == "1.0.0"
        assert [one["pinnedVersion"] for one in program.json("set-info", lab.set_name)["instances"]] == [
            None, "1.0.0", None]

    def test_nobody_to_move_says_who_is_pinned(self, lab):
        before = lab.program.snapshot()
        out = lab.program("upgrade", lab.set_name).out
        assert "1 of 3 is pinned" in out and f"left alone: {lab.names[1]}: pinned to 1.0.0" in out
        assert lab.program.snapshot() == before

    def test_a_pin_keeps_its_version(self, lab):
        self.define(lab, i1="2")  # nobody runs it yet
        line = lab.program.fails(REFUSED, "image-delete", "cheap", "2.0.0")
        assert f"set {lab.set_name} (its model pins {lab.names[1]})" in line
        result = lab.program("set-define", "-", stdin=lab.program.model(lab.set_name, lab.names, pins={lab.names[0]: "9"}))
        assert "warning: " in result.err and "9" in result.err and lab.names[0] in result.err

    def test_an_instance_is_brought_to_its_pin_by_name(self, lab):
        program, (first, second, third) = lab.program, lab.names
        self.define(lab, i1="2.0.0")
        out = program("plan", lab.set_name).out
        assert f"but runs 1.0.0; 'virt-reimage reimage {lab.set_name} {second} --version 2.0.0' moves it" in out
        assert [one["latestModelApplied"] for one in lab.status()["instances"]] == [True, False, True]
        program("reimage", lab.set_name, second, "--version", "2.0.0")
        assert lab.versions() == {first: "3.0.0", second: "2.0.0", third: "3.0.0"}
        dry = program.json("reimage", lab.set_name, "--all", "--version", "3.0.0", "--dry-run")
        assert [one["domain"] for one in dry["skipped"]] == [second]
        dry = program.json("reimage", lab.set_name, second, "--version", "3.0.0", "--dry-run")
        assert [one["domain"] for one in dry["batches"][0]["instances"]] == [second]

    def test_the_previous_version_named(self, lab):
        """A pin of the set to what ran before takes all of it back, the instance with the same pin too."""
        program = lab.program
        self.define(lab, version="2.0.0", i0="2.0.0")
        out = program("plan", lab.set_name).out
        assert "2.0.0, pinned" in out
        program("upgrade", lab.set_name)
        assert lab.versions() == lab.all_on("2.0.0")


class TestBadVersion:
    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        lab = make_lab(2, "bad", batch=50)
        lab.program("image-publish", "cheap", "4.0.0", crashing_image(lab.program, "4.0.0"))
        return lab

    def test_it_is_put_back_and_the_run_stops(self, lab):
        line = lab.program("upgrade", lab.set_name, status=POLICY).error()
        assert "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade" in line
        assert lab.versions() == lab.all_on("1.0.0")
        assert lab.fleet[1].booted_versions() == ["1.0.0"]
        run = last_run(lab)
        assert run["runningStatus"]["code"] == "Faulted"
        assert run["rollbackInfo"]["successfullyRolledbackInstanceCount"] == 1
        assert run["error"]["code"] == "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"
        view = lab.program.json("instance-view", lab.set_name, lab.names[0])
        assert view["lastRun"]["phase"] == "restored" and view["lastRun"]["reason"]
        assert [one["state"] for one in view["generations"]] == ["current", "failed"]

    def test_it_is_not_tried_again_without_a_word(self, lab):
        """Invariant 21"""
        line = lab.program.fails(REFUSED, "upgrade", lab.set_name)
        assert last_run(lab)["runId"] in line and "--version 4.0.0" in line
        lab.program.fails(REFUSED, "plan", lab.set_name)
        lab.program("upgrade", lab.set_name, "--version", "4.0.0", status=POLICY)

    def test_a_rollback_after_it_finds_no_move_to_undo(self, lab):
        assert "nothing to undo" in lab.program.fails(REFUSED, "rollback", lab.set_name, "--all")

    def test_a_good_version_on_top(self, lab):
        lab.program("image-exclude", "cheap", "4.0.0")
        lab.program("upgrade", lab.set_name)
        assert lab.versions() == lab.all_on("3.0.0")

    def test_without_automatic_rollback_it_is_left(self, lab):
        lab.program("image-include", "cheap", "4.0.0")
        lab.program("upgrade", lab.set_name, "--version", "4.0.0", "--no-auto-rollback", status=POLICY)
        assert lab.fleet[0].configured_os_disk().endswith("/g4.qcow2")


class TestDeafGuest:
    """B15: it ignores the power button, and the model does not allow to switch it off."""

    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(2, "deaf", batch=50, guest={"ignore_acpi": True}, stop="timeout: PT2S, force: false")

    def test_it_stays_on_its_old_disk_and_the_version_is_not_blamed(self, lab):
        line = lab.program("upgrade", lab.set_name, "--version", "2.0.0", status=FAILED).error()
        assert "InternalExecutionError" in line and "still run on their old disks" in line and "force" in line
        assert lab.versions() == lab.all_on("1.0.0")
        assert [guest.booted_versions() for guest in lab.fleet] == [["1.0.0"], ["1.0.0"]]
        lab.program("image-exclude", "cheap", "3.0.0")
        lab.program("upgrade", lab.set_name, "--dry-run")  # 2.0.0 by latest: it never ran, so it did not fail


class TestUnhealthySet:
    """D2: plan says what the run would end with, and who is unhealthy and why."""

    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(2, "sick", batch=50, guest={"agent": True}, unhealthy=50,
                        health="applicationHealth: {protocol: agent, file: /run/health.json}, ")

    def test_plan_and_upgrade_agree(self, lab):
        before = lab.program.snapshot()
        line = lab.program("plan", lab.set_name, "--version", "2.0.0", status=POLICY).error()
        assert "2 of 2 instances are unhealthy" in line and f"'{lab.names[0]}': the guest agent does not answer" in line
        assert lab.program.snapshot() == before
        line = lab.program("upgrade", lab.set_name, "--version", "2.0.0", status=POLICY).error()
        assert "MaxUnhealthyInstancePercentExceededBeforeRollingUpgrade" in line
        assert f"'{lab.names[1]}': the guest agent does not answer" in line
        assert [guest.booted_versions() for guest in lab.fleet] == [["1.0.0"], ["1.0.0"]]
