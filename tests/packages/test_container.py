# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5, H5: the packages on a host with systemd as its process 1."""
import pytest

SET, GUESTS = "night-shop", ["web-0", "web-1"]


@pytest.fixture
def shop(booted, debs):
    """Two guests on 1.0.0, in a set, and 2.0.0 is there for them."""
    booted.wait_for(lambda: booted.run("virsh", "list").status == 0, 30, "libvirt answers")
    booted.install(debs, *debs.names)
    for guest in GUESTS:
        booted.add_guest(guest)
    booted.publish("1.0.0", "2.0.0")
    booted.add_set(SET, GUESTS)
    return booted


def test_a_nightly_reimage(shop):
    """H5: the timer begins it at its hour, for the set of its name, and each guest gets a fresh disk of the version that it has."""
    shop("systemctl", "enable", "--now", f"virt-reimage@{SET}.timer")
    assert "03:00:00" in shop("systemctl", "list-timers", f"virt-reimage@{SET}.timer")
    shop("systemctl", "start", f"virt-reimage@{SET}.service")
    for guest in GUESTS:
        assert shop.booted_versions(guest) == ["1.0.0"] * 2
    assert shop.versions(SET) == ["1.0.0"] * 2
    assert "Main process exited" not in shop("journalctl", "-u", f"virt-reimage@{SET}.service")
