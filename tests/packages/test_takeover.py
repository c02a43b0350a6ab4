# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5: a run that the end of the daemon or of the host left open is gone on with by the next start."""
import os

import pytest
from shop import DAEMON, GUESTS, begin_run, finish_run, job_units, swapped, wait_libvirt

full = pytest.mark.skipif(os.environ.get("VR_FULL") != "1", reason="half a minute: VR_FULL=1")


def test_a_stop_and_a_start(shop):
    """K5: a stop brings the run to its batch border, leaves it open there, and the next start goes on with it."""
    begin_run(shop)
    shop("systemctl", "stop", DAEMON)
    shop.wait_for(lambda: not job_units(shop), 5, "the process of the run, which it waited for, has ended")
    assert swapped(shop) == 1, "the other guest's batch was not begun"
    shop("systemctl", "start", DAEMON)
    finish_run(shop)


@full
def test_a_host_that_shuts_down(shop):
    """K5, SAFETY 4.22: the run is left open before guests are suspended, and gone on with when they are back."""
    shop.append("/etc/default/libvirt-guests", "ON_SHUTDOWN=suspend\nON_BOOT=start\n")
    # Debian 12 stops libvirtd beside it, so that it can suspend nothing (docs/daemon.md).
    shop("install", "-D", "-m", "0644", "/usr/share/doc/virt-reimage/examples/libvirt-guests.conf",
         "/etc/systemd/system/libvirt-guests.service.d/order.conf")
    shop("systemctl", "daemon-reload")
    begin_run(shop)
    shop.power_off()
    assert swapped(shop) == 1, "the run was left open at its batch border"
    shop.boot()
    wait_libvirt(shop)
    finish_run(shop)
    said = shop("journalctl", "-o", "cat")
    suspended = said.index("Suspending guests on")
    assert said.index("Stopped virt-reimaged.service") < suspended and said.index("Stopped virt-reimage-job@") < suspended


@full
def test_a_power_loss(shop):
    """K5: a run that a power loss cut is gone on with by itself."""
    for guest in GUESTS:
        shop("virsh", "autostart", guest)
    begin_run(shop)
    shop.end()
    shop.boot()
    wait_libvirt(shop)
    finish_run(shop, once=False)
