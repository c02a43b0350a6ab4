# SPDX-License-Identifier: LGPL-2.1-or-later
"""G7: protect and unprotect. G10, G11, decision 2: a protected instance that is down holds no place."""
import re

import pytest

from lib import cheap_guest
from conftest import PREFIX
from program import FAILED, OWNED, POLICY, REFUSED, USAGE
from test_sets import Owner

PROTECTED = "protectionPolicy: {protectFromScaleSetActions: true}"
SINCE = r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture(scope="module", name="fleet")
def fixture_fleet():
    """Four guests that are off: plans need no running ones."""
    with cheap_guest.Fleet(4, f"{PREFIX}-protect", version="1.0.0") as fleet:
        yield fleet


@pytest.fixture(name="names")
def fixture_names(fleet):
    return [guest.name for guest in fleet]


@pytest.fixture(name="define")
def fixture_define(published, names):
    """Defines the set 'shop'; labels: keys of an instance, by its name. Returns the program."""
    def define(of=None, labels=None, **options):
        published("set-define", "-", stdin=published.model("shop", of or names, labels=labels, **options))
        return published
    return define


def moved(plan):
    return [one["domain"] for batch in plan["batches"] for one in batch["instances"]]


def skipped(plan):
    return {one["domain"]: one["reason"] for one in plan["skipped"]}


def protection(program):
    return {one["domain"]: one["protection"] for one in program.json("set-info", "shop")["instances"]}


def test_protect_keeps_an_instance_out_of_set_actions(define, names):
    """G7: until it is named, or protected no longer."""
    program = define()
    first, second = names[:2]
    out = program("protect", "shop", first, second, "--reason", "repair, ticket 4711").out
    assert out == f"{first} is protected\n{second} is protected\n"
    plan = program.json("plan", "shop")
    assert moved(plan) == names[2:]
    assert re.fullmatch(f"protected {SINCE}: repair, ticket 4711; 'virt-reimage reimage shop {first} --version 3.0.0' moves it",
                        skipped(plan)[first])
    reimage = ["--json", "reimage", "shop", "--version", "3.0.0", "--dry-run"]
    assert moved(program(*reimage, "--all").json) == names[2:]
    assert moved(program(*reimage, first).json) == [first]
    assert "cannot be a canary, since it is not to be moved: protected since" in program.fails(
        REFUSED, "upgrade", "shop", "--canary", first)
    assert program("unprotect", "shop", first).out == f"{first} is protected no longer\n"
    assert moved(program.json("plan", "shop")) == [first, *names[2:]]


def test_why_is_shown(define, names):
    """G7: status, set-info and instance-view, for persons and programs."""
    program = define(labels={names[1]: PROTECTED, names[2]: PROTECTED})
    program("protect", "shop", names[0], "--reason", "slow disk")
    program("protect", "shop", names[2])
    for command in ("status", "set-info"):
        out = program(command, "shop").out
        assert re.search(f"^  {names[0]}: protected {SINCE}: slow disk$", out, re.MULTILINE)
        assert f"  {names[1]}: protected by the model\n" in out
        assert re.search(f"^  {names[2]}: protected by the model, and {SINCE}$", out, re.MULTILINE)
        assert f"{names[3]}: protected" not in out
        instances = program.json(command, "shop")["instances"]
        assert [one["protected"] for one in instances] == [True, True, True, False]
        assert [one["protection"] and one["protection"]["byModel"] for one in instances] == [False, True, True, None]
        assert [one["protection"] and one["protection"]["reason"] for one in instances] == ["slow disk", None, None, None]
        assert instances[0]["protection"]["since"].endswith("Z") and instances[1]["protection"]["since"] is None
    assert re.search(f"^Protection: +protected {SINCE}: slow disk$", program("instance-view", "shop", names[0]).out, re.MULTILINE)
    assert re.search("^Protection: +-$", program("instance-view", "shop", names[3]).out, re.MULTILINE)
    assert program.json("instance-view", "shop", names[0])["protection"]["reason"] == "slow disk"


def test_protection_stays_with_the_instance(define, names):
    """G7: a set that is defined anew keeps it; who leaves the set loses it."""
    program = define()
    program("protect", "shop", names[0], names[1], "--reason", "here")
    before = protection(program)
    define(of=names[::-1], batch=50)
    assert protection(program) == before
    define(of=names[1:])
    define()
    assert protection(program) == {**before, names[0]: None}
    program("set-undefine", "shop")
    define()
    assert set(protection(program).values()) == {None}


def test_what_is_so_already_and_dry_runs(define, names):
    """G7, G10: success, and nothing changes."""
    program = define()
    assert program("unprotect", "shop", names[0]).out == f"{names[0]} is not protected already\n"
    before = program.snapshot()
    assert program("protect", "shop", names[0], "--dry-run").out == f"{names[0]} would be protected\n"
    assert program.snapshot() == before
    program("protect", "shop", names[0], "--reason", "first")
    before = protection(program)
    again = program("protect", "shop", *names[:2], "--reason", "second").out
    assert re.search(f"^{names[0]} is protected {SINCE}: first already$", again, re.MULTILINE) and f"{names[1]} is protected\n" in again
    assert protection(program)[names[0]] == before[names[0]] and protection(program)[names[1]]["reason"] == "second"
    before = program.snapshot()
    assert program("unprotect", "shop", names[0], "--dry-run").out == f"{names[0]} would be protected no longer\n"
    assert program.snapshot() == before


def test_unprotect_leaves_to_the_model_what_it_protects(define, names):
    """G7: all or nothing, and what to do."""
    program = define(labels={names[1]: PROTECTED})
    program("protect", "shop", names[0])
    line = program.fails(REFUSED, "unprotect", "shop", *names[:2])
    assert f"protects '{names[1]}'" in line and "set-edit shop" in line
    assert protection(program)[names[0]]
    assert "protect SET INSTANCE" in program.fails(USAGE, "protect", "shop")
    assert "no instance 'nobody'" in program("protect", "shop", names[3], "nobody", status=FAILED).error()
    assert protection(program)[names[3]] is None


def test_refused_while_somebody_works_on_the_set(define, names):
    """G7, G11"""
    program = define()
    with Owner(program, "shop"):
        for command in ("protect", "unprotect"):
            assert "shop" in program.fails(OWNED, command, "shop", names[0])


def test_protected_and_down_holds_no_place(define, fleet, names):
    """Decision 2: protect is one of the ways out where no place is free."""
    for guest in (fleet[0], fleet[1], fleet[2]):
        guest.start()  # those that are off take no place (decision 14)
    fleet[1].domain.suspend()
    try:
        program = define(labels={names[0]: "role: web", names[2]: "role: web"}, batch=5, unhealthy=5)
        why = program("--json", "plan", "shop", "--role", "web", status=POLICY).json["wouldStop"]
        assert f"'{names[1]}': the domain is paused" in why
        assert "repair them, take them out with 'virt-reimage protect', or raise maxUnhealthyInstancePercent" in why
        program("protect", "shop", names[1])
        plan = program.json("plan", "shop", "--role", "web")
        assert plan["wouldStop"] is None and moved(plan) == [names[0], names[2]]
    finally:
        for guest in (fleet[0], fleet[1], fleet[2]):
            guest.destroy()
