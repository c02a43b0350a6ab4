# SPDX-License-Identifier: LGPL-2.1-or-later
"""A newer version on top of a stuck run: F8, decision 6."""
import pytest

from lib.application import Applications
from program import POLICY

HALF = {"batch": 40, "unhealthy": 40}
STRICT = {"batch": 20, "unhealthy": 20}


@pytest.fixture(scope="module", name="applications")
def fixture_applications():
    with Applications(5) as applications:
        yield applications


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab, applications):
    """Nobody is well on 2.0.0, and two were left there, one of which came good at first: of five, one may be down."""
    lab = make_lab(5, "ontop")
    for guest, application in zip(lab.fleet[:2], applications):
        application.is_healthy = lambda guest=guest: not guest.configured_os_disk().endswith("/g1.qcow2")
    falls_ill = applications[1].is_healthy
    applications[1].is_healthy = lambda: True
    lab.define(**applications.model(lab.names), **HALF)
    result = lab.program("upgrade", lab.set_name, "--version", "2.0.0", "--no-auto-rollback", status=POLICY)
    assert "1 of 2 upgraded (50%) failed" in result.error()
    applications[1].is_healthy = falls_ill
    assert list(lab.versions().values()) == ["2.0.0", "2.0.0", "1.0.0", "1.0.0", "1.0.0"]
    lab.define(**applications.model(lab.names), **STRICT)
    return lab


def batches(plan):
    return [[int(one["domain"].rsplit("-", 1)[1]) for one in batch["instances"]] for batch in plan["batches"]]


def test_the_same_version_counts_them(lab):
    """Decision 6 is for a newer version: this one has failed."""
    result = lab.program("upgrade", lab.set_name, "--version", "2.0.0", status=POLICY)
    assert "2 of 5 instances (40%) are unhealthy, at most 1 (20%) may be; nothing was touched" in result.error()


def test_others_count(lab, applications):
    """Two that fell ill by themselves are too many, whatever the earlier run left."""
    healthy = applications[3].is_healthy, applications[4].is_healthy
    applications[3].is_healthy = applications[4].is_healthy = lambda: False
    line = lab.program("upgrade", lab.set_name, status=POLICY).error()
    assert "2 of 5 instances (40%) are unhealthy" in line and lab.names[3] in line and lab.names[0] not in line
    applications[3].is_healthy, applications[4].is_healthy = healthy


def test_a_newer_version_goes_on_top(lab):
    """F8: the ways out stay open; they go first, and come good. A run that was stopped before it touched them hides nothing."""
    plan = lab.program.json("plan", lab.set_name)
    assert batches(plan) == [[0], [1], [2], [3], [4]]
    assert plan["batches"][0]["reason"].endswith("unhealthy first, 1 that an earlier run left failed")
    lab.program("upgrade", lab.set_name)
    assert lab.versions() == lab.all_on("3.0.0")


def test_what_came_good_counts_again(lab, applications):
    healthy = applications[0].is_healthy, applications[1].is_healthy
    applications[0].is_healthy = applications[1].is_healthy = lambda: False
    lab.program.publish("4.0.0")
    assert "2 of 5 instances (40%) are unhealthy" in lab.program("upgrade", lab.set_name, status=POLICY).error()
    applications[0].is_healthy, applications[1].is_healthy = healthy
