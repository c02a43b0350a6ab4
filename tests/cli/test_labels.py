# SPDX-License-Identifier: LGPL-2.1-or-later
"""What instances are labelled with, in models, plans and runs. D7-D10, D15, D16, D22, D23, D26, D30, E11, G7, H7, L5."""
import json
import os
import signal
import stat
import time

import pytest

from lib import cheap_guest
from conftest import PREFIX
from program import DONE, POLICY, REFUSED, USAGE, error_parts


@pytest.fixture(scope="module", name="fleet")
def fixture_fleet():
    """Six guests that are off: plans need no running ones."""
    with cheap_guest.Fleet(6, f"{PREFIX}-labels", version="1.0.0") as fleet:
        yield fleet


@pytest.fixture(name="define")
def fixture_define(published, fleet):
    """Defines the set 'shop' of all guests; labels[i] are those of the i-th. Returns the program."""
    def define(labels=(), **options):
        names = [guest.name for guest in fleet]
        text = published.model("shop", names, labels=dict(zip(names, labels)), **options)
        published("set-define", "-", stdin=text)
        return published
    return define


def batches(plan):
    """[[number of a guest, ...], ...]"""
    return [[int(one["domain"].rsplit("-", 1)[1]) for one in batch["instances"]] for batch in plan["batches"]]


def test_roles_are_spread_over_the_same_domains(define):
    """D7, D8: each role begins anew; what an instance got it keeps."""
    roles = ["role: web", "role: worker", "role: worker", "role: worker", "role: web", "role: web"]
    program = define(roles, upgrade_domains=2)
    info = program.json("set-info", "shop")["instances"]
    assert [one["upgradeDomain"] for one in info] == [0, 0, 1, 0, 1, 0]
    assert [one["role"] for one in info] == [role.split()[1] for role in roles]
    define(roles[::-1], upgrade_domains=2)
    assert [one["upgradeDomain"] for one in program.json("set-info", "shop")["instances"]] == [0, 0, 1, 0, 1, 0]
    assert "worker" in program("set-info", "shop").out


def test_plan_says_role_zone_and_phase(define):
    """D9, D10: zones and phases apart, in order."""
    program = define(["role: web, zone: a", "role: web, zone: b", "role: web, zone: a, phase: 1", "role: worker, zone: b",
                      "zone: a", "zone: b, phase: 1"])
    plan = program.json("plan", "shop")
    assert batches(plan) == [[2], [5], [0, 4], [1, 3]]
    assert [(batch["phase"], batch["zone"]) for batch in plan["batches"]] == [(1, "a"), (1, "b"), (None, "a"), (None, "b")]
    assert plan["batches"][0]["reason"].startswith("phase 1, UD 0, zone a, role web: 1 of 6")
    assert plan["batches"][3]["reason"].startswith("UD 0, zone b, roles web, worker: 2 of 6")
    assert [one["role"] for one in plan["batches"][3]["instances"]] == ["web", "worker"]
    assert "phase 1, UD 0, zone b" in program("plan", "shop").out
    program = define(["zone: a", "zone: b"], policy="    enableCrossZoneUpgrade: true\n")
    assert batches(program.json("plan", "shop")) == [[0, 1, 2, 3, 4, 5]]


def test_pairs_go_apart(define):
    """D10"""
    program = define(["pair: p", "pair: p", "pair: q", "", "pair: q", ""][:2])
    plan = program.json("plan", "shop")
    assert batches(plan) == [[0, 2, 3, 4, 5], [1]]
    assert plan["batches"][0]["instances"][0]["pair"] == "p"


def test_upgrade_of_one_role(define):
    """D8: --role; one that nobody has is a mistake, not an empty run."""
    program = define(["role: web", "role: worker", "role: web", "role: worker", "role: db"])
    plan = program.json("plan", "shop", "--role", "worker")
    assert batches(plan) == [[1, 3]]
    assert {one["reason"] for one in plan["skipped"]} == {"not of role worker"}
    assert batches(program.json("upgrade", "shop", "--role", "web", "--dry-run")) == [[0, 2]]
    line = program.fails(USAGE, "upgrade", "shop", "--role", "wep")
    assert "'wep'" in line and "web, worker, db" in line
    define([])
    assert "names none" in program.fails(USAGE, "plan", "shop", "--role", "web")


def test_single_instances_are_named(define):
    """D22: of the set, and of each role; only where it would be moved."""
    program = define(["role: web", "role: web", "role: db"])
    warnings = " ".join(program.json("plan", "shop")["warnings"])
    assert "role db has one instance: its service is down" in warnings and "role web" not in warnings
    assert "role db" not in " ".join(program.json("plan", "shop", "--role", "web")["warnings"])


def test_overprovision_only_warns(define):
    """D28: Azure's documents have it."""
    program = define(more="overprovision: true\n")
    assert "overprovision: true does nothing here" in " ".join(program.json("plan", "shop")["warnings"])
    program = define(more="overprovision: false\n")
    assert "overprovision" not in " ".join(program.json("plan", "shop")["warnings"])


def test_automatic_without_a_daemon(published, fleet):
    """D28, H2: enableAutomaticOSUpgrade: true is taken, and where no daemon runs both commands say that nothing starts by itself."""
    model = published.model("shop", [guest.name for guest in fleet], health="applicationHealth: {protocol: tcp, port: 22}, ",
                            policy="  automaticOSUpgradePolicy: {enableAutomaticOSUpgrade: true}\n")
    assert "virt-reimaged does not run" in published("set-define", "-", stdin=model).err
    assert "virt-reimaged does not run" in " ".join(published.json("plan", "shop")["warnings"])


def test_one_that_is_up_alone(define, fleet):
    """D26: a role that was defined larger has one instance that serves."""
    fleet[1].start()
    try:
        program = define(["role: web", "role: web", "role: web", "role: db", "role: db", "role: db"])
        warnings = [one for one in program.json("plan", "shop")["warnings"] if "serves" in one]
        assert len(warnings) == 1
        assert "of the 3 instances of role web only" in warnings[0] and fleet[1].name in warnings[0]
        assert "only" in program("plan", "shop").out
    finally:
        fleet[1].destroy()


def test_plan_says_what_would_stop_the_run(define, fleet):
    """D6, decision 2: who holds the places; also where nobody reads the error."""
    fleet[0].start()  # those that are off take no place (decision 14)
    fleet[1].start()
    fleet[1].domain.suspend()
    try:
        program = define(["role: web", "role: db"], batch=5, unhealthy=5)
        plan = program("--json", "plan", "shop", "--role", "web", status=POLICY)
        why = plan.json["wouldStop"]
        assert plan.json["batches"] == [] and why in plan.error()
        assert f"1 of 2 instances are unhealthy, at most 1 may be down at once; '{fleet[1].name}': the domain is paused" in why
        error = error_parts(plan.err)
        assert "repair" in why and error["next"].startswith("repair them, take them out") and "repair" not in error["what"]
    finally:
        fleet[1].destroy()
    assert program.json("plan", "shop", "--role", "web")["wouldStop"] is None
    fleet[0].destroy()


def test_batch_by_upgrade_domain(define, fleet):
    """D30: whole domains, as far as decision 2 has places for those that run; else the plan says so."""
    for guest in fleet:
        guest.start()
    whole = "  batchBy: upgradeDomain\n"
    program = define(upgrade_domains=2, batch=5, unhealthy=50, policy=whole)
    plan = program.json("plan", "shop")
    assert batches(plan) == [[0, 2, 4], [1, 3, 5]]
    assert "upgradeDomain" not in " ".join(plan["warnings"])
    define(upgrade_domains=2, batch=5, unhealthy=34, policy=whole)
    plan = program.json("plan", "shop")
    assert batches(plan) == [[0, 2], [4], [1, 3], [5]]
    assert "batchBy upgradeDomain: UD 0 goes in 2 batches, UD 1 goes in 2 batches" in " ".join(plan["warnings"])
    assert "not 3: at most 2 may be down at once" in plan["batches"][0]["reason"]
    for guest in fleet:
        guest.destroy()
    assert batches(program.json("plan", "shop")) == [[0, 2, 4], [1, 3, 5]]  # nobody is served: decision 14


def test_protected_instances_move_when_they_are_named(define, fleet):
    """G7"""
    program = define(["protectionPolicy: {protectFromScaleSetActions: true}"] * 2)
    first = fleet[0].name
    plan = program.json("plan", "shop")
    assert batches(plan) == [[2, 3, 4, 5]]
    assert plan["skipped"][0]["reason"] == (
        f"protected by the model; 'virt-reimage reimage shop {first} --version 3.0.0' moves it")
    assert f"left alone: {first}: protected by the model" in program("plan", "shop").out
    reimage = ["--json", "reimage", "shop", "--version", "3.0.0", "--dry-run"]
    assert batches(program(*reimage, "--all").json) == [[2, 3, 4, 5]]
    assert batches(program(*reimage, first).json) == [[0]]
    define(["protectionPolicy: {protectFromScaleSetActions: true}"] * 6)
    before = program.snapshot()
    assert "6 of 6 are protected" in program("upgrade", "shop").out
    assert program.snapshot() == before


def test_set_info_shows_what_holds_a_run(define):
    """D15, D16, D23, D24, E11, J10"""
    program = define(policy="  checkpoints: {percent: [10, 50], wait: PT2M}\n  bakeTime: PT1H\n  timeout: PT8H\n"
                            "  maxDowntime: PT1M\n  maxInFlightPerHost: 2\n  gate: [/usr/bin/true, -q]\n")
    policy = program.json("set-info", "shop")["upgradePolicy"]
    assert policy["checkpoints"] == {"percent": [10, 50], "waitSeconds": 120}
    assert (policy["bakeTimeSeconds"], policy["timeoutSeconds"], policy["maxDowntimeSeconds"]) == (3600, 28800, 60)
    assert policy["gate"] == ["/usr/bin/true", "-q"] and policy["batchBy"] == "percent"
    assert policy["maxInFlightPerHost"] == 2
    assert (policy["gateTimeoutSeconds"], policy["gateAfter"]) == (60, None)
    plan = program.json("plan", "shop")
    assert batches(plan) == [[0, 1], [2, 3], [4, 5]]
    assert "2 of 6 (33%), not 6: at most 2 of a host may be on their way" in plan["batches"][0]["reason"]
    out = program("set-info", "shop").out
    assert all(word in out for word in ("10%, 50%", "Bake time", "Timeout", "Max downtime", "at most 2 of a host", "/usr/bin/true -q"))
    define()
    assert program.json("set-info", "shop")["upgradePolicy"]["gate"] is None


class TestRuns:
    """On running guests."""

    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(3, "labelled")

    def define(self, lab, labels, **options):
        lab.define(labels=dict(zip(lab.names, labels)), **options)

    def test_one_role_and_then_the_rest(self, lab):
        """D8: never both of the role at once, although the policy lets all be down."""
        self.define(lab, ["role: web", "role: web", "role: worker"])
        lab.program("upgrade", lab.set_name, "--version", "2.0.0", "--role", "web")
        assert lab.versions() == {**lab.all_on("2.0.0"), lab.names[2]: "1.0.0"}
        run = lab.program.json("history", lab.set_name)["runs"][0]
        found = lab.program.json("history", lab.set_name, "--run", run["runId"])["instances"]
        assert [one["batch"] for one in found if one["phase"] == "committed"] == [1, 2]

    def test_gate_and_phases(self, lab):
        """E11, L5, D10: the gate is told set, run, batch and who would go, before each of them; its counterpart after it."""
        told, read = (os.path.join(lab.fleet.dir, name) for name in ("told", "read"))
        gate = lab.program.write("gate", f"#!/bin/sh\n[ $1 = ask ] || sleep 0.5\necho \"$@\" >>{told}\ncat >>{read}\n")
        os.chmod(gate, stat.S_IRWXU)
        self.define(lab, ["phase: 2", "phase: 1", ""],
                    policy=f"  gate: [{gate}, ask]\n  gateTimeout: PT30S\n  gateAfter: [{gate}, back]\n")
        result = lab.program("--json", "upgrade", lab.set_name, "--version", "3.0.0")
        run = result.lines[-1]["run"]["runId"]
        with open(told, encoding="utf-8") as file:
            assert file.read().splitlines() == [f"{word} {lab.set_name} {run} {batch}" for batch in (1, 2, 3)
                                                for word in ("ask", "back")]
        with open(read, encoding="utf-8") as file:
            seen = [json.loads(line) for line in file]
        assert [(one["batch"], one["instances"][0]["domain"], one["instances"][0]["phase"]) for one in seen] == [
            (batch, lab.names[index], phase) for batch, index in ((1, 1), (2, 0), (3, 2)) for phase in ("pending", "committed")]
        found = lab.program.json("history", lab.set_name, "--run", run)["instances"]
        assert [one["batch"] for one in found] == [2, 1, 3]

    def test_guests_that_cannot_be_told(self, lab):
        """H7: none of them has an agent; plan says so before any is touched, or lets them go."""
        notice = "scheduledEventsProfile: {{osImageNotificationProfile: {{enable: true, notBeforeTimeout: PT1H{}}}}}\n"
        self.define(lab, [], more=notice.format(""))
        line = lab.program("reimage", lab.set_name, lab.names[0], status=REFUSED).error()
        assert "[no-agent-for-notice]" in line and "withoutAgent: proceed" in line
        self.define(lab, [], more=notice.format(", withoutAgent: proceed"))
        warned = [one["domain"] for one in lab.program.json("plan", lab.set_name, "--version", "2.0.0")["findings"]
                  if one["id"] == "goes-without-notice"]
        assert sorted(warned) == sorted(lab.names)
        result = lab.program("--json", "reimage", lab.set_name, lab.names[0])
        assert any("goes down without notice" in (one.get("text") or "") for one in result.lines)
        assert lab.versions() == lab.all_on("3.0.0")

    def test_a_gate_that_does_not_open_stops_the_run(self, lab):
        gate = lab.program.write("closed", "#!/bin/sh\necho not tonight >&2\nexit 1\n")
        os.chmod(gate, stat.S_IRWXU)
        self.define(lab, [], policy=f"  gate: [{gate}]\n")
        line = lab.program("upgrade", lab.set_name, "--version", "2.0.0", status=POLICY).error()
        assert "not tonight" in line
        assert lab.versions() == lab.all_on("3.0.0")

    def test_ctrl_c_does_not_wait_for_a_gate(self, lab):
        """G2: nor for the rest of a survey."""
        asked = os.path.join(lab.fleet.dir, "asked")
        gate = lab.program.write("slow", f"#!/bin/sh\n: >{asked}\nsleep 50\n")
        os.chmod(gate, stat.S_IRWXU)
        self.define(lab, [], policy=f"  gate: [{gate}]\n")
        process = lab.program.start("upgrade", lab.set_name, "--version", "2.0.0")
        while not os.path.exists(asked):
            assert process.poll() is None
            time.sleep(0.05)
        where = lab.program.json("status", lab.set_name)["openRun"]
        assert (where["point"], where["hold"]) == ("between", "gate")
        assert where["holdText"] == "the gate is asked whether batch 1 may begin"
        assert "the gate is asked whether batch 1 may begin\n" in lab.program("status", lab.set_name).out
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
        assert time.monotonic() - began < 10
        assert lab.program.json("history", lab.set_name)["runs"][0]["runningStatus"]["code"] == "Cancelled"

    def test_whole_domain_with_bake_time(self, lab):
        """D16, D30: and what is protected stays."""
        self.define(lab, ["", "protectionPolicy: {protectFromScaleSetActions: true}"], batch=5, unhealthy=100,
                    policy="  batchBy: upgradeDomain\n  bakeTime: PT2S\n")
        assert lab.program("upgrade", lab.set_name, "--version", "2.0.0").status == DONE
        assert lab.versions() == {**lab.all_on("2.0.0"), lab.names[1]: "3.0.0"}
        lab.program("reimage", lab.set_name, lab.names[1], "--version", "2.0.0")
        assert lab.versions() == lab.all_on("2.0.0")
