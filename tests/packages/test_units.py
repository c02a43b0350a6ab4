# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5: the units, as systemd reads them offline."""
import re

import pytest
from packaged import Host

# Of ten, as `systemd-analyze security` counts. The limit of what works on guests is what it was when this was written: it must not grow.
EXPOSURE = {"virt-reimaged.service": 2.5, "virt-reimage-job@a.service": 5, "virt-reimage@a.service": 5}
UNITS = [*EXPOSURE, "virt-reimage@a.timer", "virt-reimage.socket", "virt-reimage-ro.socket", "virt-reimage-job.socket"]


@pytest.fixture(scope="module")
def installed(debs):
    with Host() as host:
        host.install(debs, *debs.names)
        yield host


def show(host, unit):
    """The lines of a unit's file, key and value."""
    text = host.read("/lib/systemd/system/" + re.sub("@[^.]*", "@", unit))
    return [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]


def test_nothing_is_wrong_with_them(installed):
    assert installed("systemd-analyze", "--man=no", "verify", *UNITS) == ""


@pytest.mark.parametrize("unit, limit", EXPOSURE.items())
def test_exposure(installed, unit, limit):
    installed("systemd-analyze", "security", "--offline=true", f"--threshold={round(limit * 10)}", unit)


@pytest.mark.parametrize("unit", EXPOSURE)
def test_stopped_before_libvirt_guests(installed, unit):
    """SAFETY 4.22: who is started after another is stopped before it."""
    after = " ".join(value for key, value in show(installed, unit) if key == "After").split()
    assert {"libvirtd.service", "virtqemud.service", "libvirt-guests.service"} <= set(after)


def test_a_configuration_that_is_wrong_stays_so(installed):
    assert "2" in dict(show(installed, "virt-reimaged.service"))["RestartPreventExitStatus"].split()


@pytest.mark.parametrize("unit", EXPOSURE)
def test_every_right_that_stays_has_its_reason(installed, unit):
    text = installed.read("/lib/systemd/system/" + re.sub("@[^.]*", "@", unit))
    kept = [right for key, value in show(installed, unit) if key == "CapabilityBoundingSet" for right in value.split()]
    reasons = [line for line in text.splitlines() if line.startswith("#   CAP_")]
    for right in kept:
        assert any(right in line.split("  ")[1] + line for line in reasons), right
