# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the applications of guests say of a run in their health answers: D14."""
import pytest

from lib.application import Applications
from program import DONE


@pytest.fixture(scope="module", name="applications")
def fixture_applications():
    with Applications(4) as applications:
        yield applications


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab, applications):
    lab = make_lab(4, "wishes")
    lab.define(**applications.model(lab.names))
    return lab


def order(document, key):
    """[[number of a guest, ...], ...] of the batches of a plan or a run."""
    batches = {}
    for instance in document[key]:
        batches.setdefault(instance["batch"], []).append(int(instance["domain"].rsplit("-", 1)[1]))
    return [batches[number] for number in sorted(filter(None, batches))]


def test_the_guests_say_the_order_and_who_stays(lab, applications):
    """D14: plan and run hear the same; no number goes last; who is left out is told, and counts in the set."""
    applications[0].wishes = {}
    applications[1].wishes = {"PhaseOrderingNumber": 1}
    applications[2].wishes = {"PhaseOrderingNumber": 0, "SkipUpgrade": False}
    applications[3].wishes = {"SkipUpgrade": True}
    plan = lab.program.json("plan", lab.set_name, "--version", "2.0.0")
    assert [[one["domain"] for one in batch["instances"]] for batch in plan["batches"]] == [
        [lab.names[2]], [lab.names[1]], [lab.names[0]]]
    assert plan["batches"][0]["reason"].startswith("phase 0 of the guests, UD 0: 1 of 4")
    assert [(one["domain"], one["reason"]) for one in plan["skipped"]] == [(lab.names[3], "its guest says SkipUpgrade")]
    assert plan["chosenInstanceCount"] == 3
    out = lab.program("plan", lab.set_name, "--version", "2.0.0").out
    assert f"left alone: {lab.names[3]}: its guest says SkipUpgrade" in out

    run = lab.program("--json", "upgrade", lab.set_name, "--version", "2.0.0").lines[-1]["run"]
    assert run["progress"] == {"successfulInstanceCount": 3, "failedInstanceCount": 0, "inProgressInstanceCount": 0,
                               "pendingInstanceCount": 0, "skippedInstanceCount": 1}
    assert lab.versions() == {**lab.all_on("2.0.0"), lab.names[3]: "1.0.0"}
    kept = lab.program.json("history", lab.set_name, "--run", run["runId"])
    assert order(kept, "instances") == [[2], [1], [0]]
    assert {one["domain"]: one["reason"] for one in kept["instances"]}[lab.names[3]] == "its guest says SkipUpgrade"


def test_all_that_are_left_ask_to_be_left_out(lab):
    out = lab.program("upgrade", lab.set_name, "--version", "2.0.0").out
    assert "the guests of 1 of 4 say SkipUpgrade" in out and f"{lab.names[3]}: its guest says SkipUpgrade" in out
    assert lab.versions()[lab.names[3]] == "1.0.0"


def test_a_guest_changes_its_mind_while_the_run_goes(lab, applications):
    """D14: who says it before its batch stays, for the rest of the run; the run says so."""
    for application in applications:
        application.wishes = {}
    applications[0].wishes = {"PhaseOrderingNumber": 0}

    before = applications[0].asked  # then: the plan, the first survey, the probe of its new system

    def when_asked():
        if applications[0].asked >= before + 3:
            applications[1].wishes = {"SkipUpgrade": True}

    applications[0].when_asked = when_asked
    result = lab.program("upgrade", lab.set_name, "--version", "3.0.0")
    applications[0].when_asked = lambda: None
    applications[1].wishes = {}
    assert "skipped" in result.out and "its guest says SkipUpgrade" in result.out
    assert lab.versions() == {**lab.all_on("3.0.0"), lab.names[1]: "2.0.0"}


def test_who_is_named_goes_and_a_rollback_asks_nobody(lab, applications):
    """D14, G7, decision 6"""
    applications[1].wishes = {"SkipUpgrade": True}
    dry = lab.program.json("upgrade", lab.set_name, "--canary", lab.names[1], "--dry-run")
    assert [one["domain"] for one in dry["batches"][0]["instances"]] == [lab.names[1]]
    assert lab.program("reimage", lab.set_name, lab.names[1], "--version", "3.0.0").status == DONE
    assert lab.versions() == lab.all_on("3.0.0")
    for application in applications:
        application.wishes = {"SkipUpgrade": True}
    lab.program("rollback", lab.set_name, "--all")
    assert lab.versions()[lab.names[1]] == "2.0.0"
    assert "say SkipUpgrade" in lab.program("reimage", lab.set_name, "--all", "--version", "3.0.0").out
    assert lab.versions()[lab.names[1]] == "2.0.0"


def test_apply_by_name_goes_and_apply_all_asks(lab, applications):
    """D14, C11"""
    lab.define(**applications.model(lab.names), kind="full")
    asked = lab.program.json("apply", lab.set_name, "--all", "--dry-run")
    assert asked["batches"] == [] and {one["reason"] for one in asked["skipped"]} == {"its guest says SkipUpgrade"}
    named = lab.program.json("apply", lab.set_name, lab.names[0], "--dry-run")
    assert [one["domain"] for one in named["batches"][0]["instances"]] == [lab.names[0]]
