# SPDX-License-Identifier: LGPL-2.1-or-later
"""D29: which version an instance gets that was added to a set; I1, A14. The tests follow each other and share their guests."""
import pytest

from program import REFUSED


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "current")


@pytest.fixture(scope="module", name="newcomer")
def fixture_newcomer(make_lab):
    """A guest of which nobody knows what it runs."""
    other = make_lab(1, "newcomer")
    other.program("set-undefine", other.set_name)
    return other.names[0]


def current(lab):
    version = lab.status()["currentVersion"]
    assert lab.program.json("set-info", lab.set_name)["currentVersion"] == version
    return version


def test_it_moves_on_when_an_upgrade_of_all_completes(lab):
    assert current(lab) is None
    first, second = lab.names
    lab.program("upgrade", lab.set_name, "--version", "1.0.0")  # nobody is to be moved: all are there
    assert current(lab) == "1.0.0"
    before = lab.program.snapshot()
    lab.program("upgrade", lab.set_name, "--version", "1.0.0")
    assert lab.program.snapshot() == before
    lab.program("reimage", lab.set_name, first, "--version", "2.0.0")
    assert current(lab) == "1.0.0"
    labels = {first: "role: web", second: "role: db"}
    lab.define(labels=labels)
    lab.program("upgrade", lab.set_name, "--role", "db", "--version", "2.0.0")
    assert current(lab) == "1.0.0"  # though all run it: no run of all has said so
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    assert current(lab) == "2.0.0"
    out = lab.program("status", lab.set_name).out
    assert "Current version" in out and "cheap 2.0.0" in lab.program("set-info", lab.set_name).out


def test_a_newcomer_gets_it(lab, newcomer):
    """... though a newer version is there: reimage brings it to what the set runs, upgrade moves all on."""
    model = lab.program.model(lab.set_name, [*lab.names, newcomer], labels={name: "role: web" for name in lab.names})
    out = lab.program("set-define", "-", stdin=model).out
    assert f"not known what is run by: {newcomer}; 'virt-reimage reimage {lab.set_name} INSTANCE' gives it 2.0.0" in out
    plan = lab.program.json("reimage", lab.set_name, newcomer, "--dry-run")
    assert plan["batches"][0]["instances"][0]["targetVersion"] == "2.0.0"
    plan = lab.program.json("plan", lab.set_name)
    assert {one["targetVersion"] for batch in plan["batches"] for one in batch["instances"]} == {"3.0.0"}
    lab.program("reimage", lab.set_name, newcomer)
    versions = {one["domain"]: one["version"] for one in lab.status()["instances"]}
    assert versions == {name: "2.0.0" for name in [*lab.names, newcomer]}


def test_its_own_pin_goes_before(lab, newcomer):
    lab.program("rollback", lab.set_name, newcomer)  # to what nobody knows
    model = lab.program.model(lab.set_name, [*lab.names, newcomer], pins={newcomer: "3.0.0"})
    lab.program("set-define", "-", stdin=model.replace("role: web", ""))
    plan = lab.program.json("reimage", lab.set_name, newcomer, "--dry-run")
    assert plan["batches"][0]["instances"][0]["targetVersion"] == "3.0.0"
    lab.define()


def test_it_goes_back_with_a_rollback_of_all(lab):
    lab.program("upgrade", lab.set_name)
    assert current(lab) == "3.0.0"
    lab.program("rollback", lab.set_name, lab.names[0])
    assert current(lab) == "3.0.0"  # one of two runs it
    lab.program("rollback", lab.set_name, "--all")
    assert current(lab) == "2.0.0"


def test_without_one_reimage_has_to_be_told(lab, newcomer):
    lab.program("set-undefine", lab.set_name)
    lab.define()
    model = lab.program.model(lab.set_name, [*lab.names, newcomer])
    assert "not known what" not in lab.program("set-define", "-", stdin=model).out
    assert "--version" in lab.program.fails(REFUSED, "reimage", lab.set_name, newcomer)
