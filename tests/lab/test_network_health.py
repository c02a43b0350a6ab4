# SPDX-License-Identifier: LGPL-2.1-or-later
"""Health over http on a real guest, behind a forward of its QEMU's own network on this host.

The forward is the hard case: QEMU accepts the connection for a guest that is not there yet, and keeps it.
"""

import socket
import xml.etree.ElementTree as ElementTree

import pytest

from guest import Guest, virsh, wait_for, wait_until

NAME = "test-4"
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
MODEL = """
schemaVersion: 1
name: test
imageReference: {{name: lab-linux, version: latest}}
healthProfile:
  applicationHealth: {{protocol: http, requestPath: {path}, intervalInSeconds: 5}}
  healthTimeout: PT40S
osDisk: {{kind: overlay, target: vda}}
tempDisks: [vdc]
stop: {{method: agent, timeout: PT30S, force: true}}
instances:
- {{domain: test-4, address: "127.0.0.1:{port}"}}
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def forward(name, port, path):
    """Gives the guest's only network card a forward to its web server, which libvirt 9.0 has no words for."""
    virsh("destroy", name)
    ElementTree.register_namespace("qemu", QEMU)
    root = ElementTree.fromstring(virsh("dumpxml", "--inactive", name))
    devices = root.find("devices")
    for card in devices.findall("interface"):
        devices.remove(card)
    command = ElementTree.SubElement(root, f"{{{QEMU}}}commandline")
    for word in ("-netdev", f"user,id=web,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:8080",
                 "-device", "virtio-net-pci,netdev=web"):
        ElementTree.SubElement(command, f"{{{QEMU}}}arg", value=word)
    path.write_text(ElementTree.tostring(root, encoding="unicode"))
    virsh("define", str(path))
    virsh("start", name)


class Web:
    """The set of one instance that is judged by its web server."""

    def __init__(self, lab, tmp_path):
        self.lab, self.port, self.path = lab, free_port(), tmp_path / "web.yaml"

    def define(self, path):
        self.path.write_text(MODEL.format(path=path, port=self.port))
        self.lab.run("set-define", str(self.path))

    def health(self):
        return self.lab.json("instance-view", "test", NAME)["health"]


@pytest.fixture
def web(lab, tmp_path):
    lab.settle()
    made = Web(lab, tmp_path)
    forward(NAME, made.port, tmp_path / "guest.xml")
    made.define("/version")
    wait_for(NAME)
    wait_until(lambda: made.health()["state"] == "Healthy", 60, "the web server of the guest")
    yield made
    lab.run("set-define", str(lab.root.parent / "lab.yaml"))


def test_http_health(lab, web):
    """Rows E1, E3, E8, E12: a new version is healthy when its web server answers from the new boot; one that never boots is put back."""
    before = Guest(NAME).facts()["inside"]
    lab.script("publish", "good")
    lab.run("upgrade", "test")
    after = Guest(NAME).facts()["inside"]
    assert after["boot_id"] != before["boot_id"] and after["version"] != before["version"]
    view = lab.json("instance-view", "test", NAME)
    assert view["health"]["state"] == "Healthy"
    assert view["health"]["text"] == f"http://127.0.0.1:{web.port}/version answered 200"
    assert view["lastSwap"]["oldBootId"] == before["boot_id"] and view["lastSwap"]["newBootId"] == after["boot_id"]

    web.define("/no-such-page")
    health = web.health()
    assert (health["state"], health["text"]) == ("Unknown", f"http://127.0.0.1:{web.port}/no-such-page answered 404")
    web.define("/version")

    lab.script("publish", "bad", "noboot")
    lab.run("upgrade", "test", status=3)
    wait_for(NAME)
    restored = Guest(NAME).facts()["inside"]
    assert restored["version"] == after["version"]
    assert f"not healthy within 40.0 s: http://127.0.0.1:{web.port}/version: no answer within" in \
        lab.json("instance-view", "test", NAME)["lastSwap"]["reason"]
