# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cheap guest, the private libvirtd and the network with DHCP do what other tests take for granted."""
import os
import socket
import struct
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is needed (Debian's /usr/bin/python3 has it)")

from lib import dhcp_network, libvirtd  # noqa: E402
from lib.cheap_guest import Fleet, boot_sector  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def system():
    if os.geteuid() != 0:
        pytest.skip("root is needed for qemu:///system")
    libvirtd.ensure()


def names(uri=libvirtd.SYSTEM_URI):
    return {domain.name() for domain in libvirt.open(uri).listAllDomains()}


def test_boots_stops_and_leaves_nothing():
    with Fleet(2, "hvtest-lib", version="12.1", n_data=2, temp=True, agent=True) as fleet:
        directory = fleet.dir
        fleet.start_all()
        assert [guest.booted_versions() for guest in fleet] == [["12.1"], ["12.1"]]
        assert fleet[0].configured_os_disk() == fleet[0].os_disk
        fleet[0].domain.shutdown()
        fleet[0].wait_off(5)
        fleet[0].start()
        fleet[0].wait_boot("12.1", boots=2)
    assert not os.path.exists(directory)
    assert not {name for name in names() if name.startswith("hvtest-lib")}


def test_bad_guests():
    with Fleet(1, "hvtest-deaf", os_format="raw", ignore_acpi=True) as deaf, \
         Fleet(1, "hvtest-blank", boots=False) as blank:
        deaf.start_all()
        blank[0].start()
        deaf[0].domain.shutdown()
        time.sleep(1.5)
        assert deaf[0].is_running() and blank[0].is_running()
        assert blank[0].booted_versions() == []


def test_a_broken_connection_leaves_no_guest():
    with Fleet(1, "hvtest-broken", start=True) as fleet:
        fleet.connection.close()
    assert not {name for name in names() if name.startswith("hvtest-broken")}


def test_a_guest_that_cannot_be_removed_is_an_error():
    with Fleet(1, "hvtest-stays") as fleet:
        fleet.uri = "qemu:///system?socket=/nonexistent"
        with pytest.raises(libvirt.libvirtError):
            fleet.clean_up()
        assert not os.path.exists(fleet.dir) and "hvtest-stays-0" in names()
        fleet.uri = libvirtd.SYSTEM_URI
    assert "hvtest-stays-0" not in names()


def test_cleans_up_after_a_failure():
    with pytest.raises(RuntimeError):
        with Fleet(1, "hvtest-fail", start=True) as fleet:
            directory = fleet.dir
            raise RuntimeError
    assert not os.path.exists(directory)
    assert "hvtest-fail-0" not in names()


def test_private_libvirtd_is_another_host():
    with libvirtd.PrivateLibvirtd() as private:
        with Fleet(1, "hvtest-private", uri=private.uri, start=True) as fleet:
            assert names(private.uri) == {"hvtest-private-0"}
            assert "hvtest-private-0" not in names()
            assert fleet[0].booted_versions() == ["1"]
            directory = private.dir
    assert not os.path.exists(directory)


def test_private_libvirtd_with_a_network():
    """What it makes of networks is its own; its programs have it as qemu:///system, and a crash takes nothing of that."""
    with libvirtd.PrivateLibvirtd(network=True) as private:
        network = "<network><name>own</name><bridge name='vrown0'/><ip address='192.168.121.1' netmask='255.255.255.0'/></network>"
        libvirt.open(private.uri).networkCreateXML(network)
        private.crash()
        private.restart()
        shown = subprocess.run(private.command("sh", "-c", "virsh -q net-list --name; ls /sys/class/net"), capture_output=True,
                               text=True, check=True).stdout
        assert sorted(shown.split()) == ["lo", "own", "vrown0"]
        assert not os.path.exists("/sys/class/net/vrown0")
        assert "own" not in {one.name() for one in libvirt.open(libvirtd.SYSTEM_URI).listAllNetworks()}


def test_a_version_that_is_too_long_is_refused():
    with pytest.raises(ValueError):
        boot_sector("1" * 400)


def receive(client):
    (length,) = struct.unpack(">I", client.recv(4, socket.MSG_WAITALL))
    return client.recv(length, socket.MSG_WAITALL)


def test_a_network_joins_its_guests_and_its_host(tmp_path):
    """Two network cards as QEMU plugs them in: what one asks all, the other hears and the network's host answers."""
    mac, address = bytes.fromhex("525400c60001"), socket.inet_aton("10.66.0.9")
    host = socket.inet_aton(dhcp_network.HOST)
    who_has = struct.pack(">6s6sHHHBBH6s4s6s4s", b"\xff" * 6, mac, 0x0806, 1, 0x0800, 6, 4, 1, mac, address, b"", host)
    with dhcp_network.Network(str(tmp_path)) as network:
        assert dhcp_network.HOST in network.run("ip", "-4", "-o", "address", "show", "dev", "tap0")
        with socket.create_connection(("127.0.0.1", network.port), timeout=10) as other, \
             socket.create_connection(("127.0.0.1", network.port), timeout=10) as asking:
            asking.sendall(struct.pack(">I", len(who_has)) + who_has)
            while receive(other) != who_has:  # the host speaks, too, unasked
                pass
            answers = iter(lambda: receive(asking), None)
            assert next(frame for frame in answers if frame[12:14] == b"\x08\x06")[28:32] == host
    assert network.server.returncode == 0
