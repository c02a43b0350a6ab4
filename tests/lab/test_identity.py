# SPDX-License-Identifier: LGPL-2.1-or-later
"""Row B3: a Debian guest with systemd and cloud-init that gets a new disk is the same machine to its network.

Behind VR_FULL=1: it builds an image (a minute) and boots it three times under TCG.
"""
import os

import pytest

from debian_guest import Fleet, build_image
from lib import dhcp_network
from program import Program

pytestmark = pytest.mark.skipif(os.environ.get("VR_FULL") != "1", reason="minutes: it builds and boots a whole Debian; VR_FULL=1 runs it")

PREFIX = "identity"
# What runs once for each instance leaves a line on the data disk.
USER_DATA = """#cloud-config
runcmd:
- [sh, -c, 'echo "$(cat /var/lib/cloud/data/instance-id) on $(cat /etc/lab-version)" >>/data/instances']
"""
MODEL = """
schemaVersion: 1
name: identity
imageReference: {{name: debian, version: latest}}
healthProfile:
  applicationHealth: {{protocol: agent, file: /run/health.json}}
  healthTimeout: PT5M
osDisk: {{target: vda}}
stop: {{method: agent, timeout: PT1M, force: true}}
instances:
- {{domain: {domain}}}
"""


@pytest.fixture(scope="module", name="images")
def fixture_images(tmp_path_factory):
    directory = tmp_path_factory.mktemp("debian")
    return {version: build_image(version, str(directory / f"{version}.qcow2")) for version in ("1.0.0", "2.0.0")}


@pytest.fixture(scope="module", name="network")
def fixture_network(tmp_path_factory):
    with dhcp_network.Network(str(tmp_path_factory.mktemp("network"))) as network:
        yield network


@pytest.fixture(scope="module", name="guest")
def fixture_guest(images, network, sweep):
    sweep(f"{PREFIX}-")
    with Fleet(1, PREFIX, images, network, USER_DATA, version="1.0.0", start=True) as fleet:
        yield fleet[0]


@pytest.fixture(scope="module", name="program")
def fixture_program(guest, images):
    program = Program(guest.fleet.path("store"), guest.fleet.dir)
    for version, path in images.items():
        program("image-publish", "debian", version, path)
    program("set-define", "-", stdin=MODEL.format(domain=guest.name))
    program("adopt", "identity", guest.name, "--version", "1.0.0")
    return program


def test_a_new_disk_and_back(guest, program):
    guest.sh("dd if=/dev/urandom of=/data/payload bs=64k count=16 2>/dev/null; sync")
    payload = "stat -c %i /data/payload; sha256sum /data/payload"
    first, data = guest.identity(), guest.sh(payload)
    assert first["hostname"] == guest.name and first["machine-id"] == guest.uuid.replace("-", "")

    program("upgrade", "identity", timeout=600)
    guest.wait_boot("2.0.0", boots=2)
    assert guest.boots() == [("1.0.0", "Healthy"), ("2.0.0", "Healthy")]
    second = guest.identity()
    # A machine-id that a template leaves open becomes the domain's UUID, and the DHCP client is known by it; only the host key is new.
    assert {**second, "host-key": None} == {**first, "host-key": None} and second["host-key"] != first["host-key"]
    assert guest.sh(payload) == data
    instance = f"{guest.name}-by-hand"
    assert guest.sh("cat /data/instances").splitlines() == [f"{instance} on 1.0.0", f"{instance} on 2.0.0"]

    program("rollback", "identity", guest.name, timeout=600)
    guest.wait_boot("1.0.0", boots=3)
    assert guest.boots()[2:] == [("1.0.0", "Healthy")]
    assert guest.identity() == first and guest.sh(payload) == data
    assert len(guest.sh("cat /data/instances").splitlines()) == 2  # the old disk knows that instance
