# SPDX-License-Identifier: LGPL-2.1-or-later
"""B18: another client's long job ("cannot acquire state change lock") is waited for, and fails no guest (SAFETY 4.14)."""
import os
import signal
import threading
import time

import libvirt
import pytest

LIBVIRT_LOCK_S = 30


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(1, "locked")


def test_a_job_of_another_client_is_waited_for(lab):
    """QEMU is stopped, so that whoever asks its monitor holds the domain's lock until it goes on, after libvirt has given up once."""
    guest = lab.fleet[0]
    with open(f"/run/libvirt/qemu/{guest.name}.pid", encoding="ascii") as file:
        pid = int(file.read())
    other = libvirt.open(lab.fleet.uri)
    domain = other.lookupByName(guest.name)
    os.kill(pid, signal.SIGSTOP)
    asks = threading.Thread(target=lambda: domain.blockStats("vda"), daemon=True)
    try:
        asks.start()
        time.sleep(1)  # it has the lock
        lab.program("status", lab.set_name, timeout=LIBVIRT_LOCK_S / 2)  # a view has no use for it, and does not wait
        run = lab.program.start("upgrade", lab.set_name, "--version", "2.0.0")
        time.sleep(LIBVIRT_LOCK_S + 5)
        assert asks.is_alive() and run.poll() is None
    finally:
        os.kill(pid, signal.SIGCONT)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, (out, err)
    asks.join(10)
    assert lab.versions() == lab.all_on("2.0.0")
