# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows B3, C1, C2, C3, C4, C6, C7, F7: a Debian guest with systemd and cloud-init that gets a new disk is the same machine to its network.

Behind VR_FULL=1: it builds an image (a minute) and boots it nine times under TCG. The tests share the guest and follow each other.
"""
import glob
import os
import resource
import secrets
import signal
import stat
import subprocess
import sys

import pytest

from debian_guest import Fleet, build_image
from lib import cheap_guest, dhcp_network
from lib.secret_hunt import EVERYWHERE, Hunt
from program import POLICY, REFUSED, Program

pytestmark = pytest.mark.skipif(os.environ.get("VR_FULL") != "1", reason="minutes: it builds and boots a whole Debian; VR_FULL=1 runs it")

PREFIX = "identity"
# What runs once for each instance leaves a line on the data disk.
RUN_ONCE = """runcmd:
- [sh, -c, 'echo "$(cat /var/lib/cloud/data/instance-id) on $(cat /etc/lab-version)" >>/data/instances']
"""
MACHINE_ID = "5eed5eed5eed5eed5eed5eed5eed5eed"
USER_DATA = "#cloud-config\n" + RUN_ONCE
CUSTOM_DATA = """#cloud-config
write_files:
- {path: /etc/lab-secret, permissions: "0600", content: "@{instance.name} %s"}
""" + RUN_ONCE
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
PROFILE = """
osProfile:
  computerName: "@{instance.name}"
  customData: {file: user-data, template: true}
  vendorData: {text: "#cloud-boothook\\n#!/bin/sh\\necho vendor >/run/lab-vendor\\n"}
  networkConfig:
    template: true
    text: "{version: 2, ethernets: {lan: {match: {macaddress: '@{instance.mac}'}, set-name: eth0, dhcp4: true}}}"
  metaData: {place: "@{set.name}/@{image.version}"}
  linuxConfiguration: {ssh: {publicKeys: [{file: key.pub}]}}
extensionProfile:
  extensions:
  - {name: app, script: app.sh, provisionAfterExtensions: [register]}
  - {name: tools, script: tools.sh}
  - {name: register, script: register.sh, protectedSettings: {file: token}}
"""
# An extension begins with the agent, which is up before cloud-init is done.
SCRIPT = """#!/bin/sh
until [ -e /run/cloud-init/result.json ]; do sleep 1; done
echo "$VIRT_REIMAGE_EXTENSION on $(cat /etc/lab-version)" >>/data/extensions
sync  # a guest that is put back is switched off
"""
REGISTER = SCRIPT + """umask 077
cat >/etc/lab-token
"""
CARRIED = """  carryOver: [ssh-hostkeys, machine-id, /etc/shop]
  carryOverFrom: FROM
  offlineConfiguration:
    files: [{text: "@{instance.name}", template: true, path: /etc/lab-offline, mode: "0640", owner: "www-data:adm"}]
    firstBoot: {text: "#!/bin/sh\\necho once >/data/first-boot-FROM\\n"}
"""
NOTICE = "scheduledEventsProfile: {osImageNotificationProfile: {enable: true, notBeforeTimeout: PT15S}}\n"
NOTICE_FILE = "/run/virt-reimage-notice.json"
SHOP = """umask 027
mkdir -p /etc/shop/tls && cd /etc/shop
head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \\n' >tls/key
chown -R www-data:adm tls
ln -sf tls/key current
echo before >state
"""
SHOP_FACTS = "cd /etc/shop; find . | sort | xargs stat -c '%N %a %u:%g %s'; cat state tls/key"
DENIED = """echo "the token $(cat /etc/lab-token) was refused" >&2
exit 22
"""
# In the guest, of what this boot wrote: what logs have, and what everybody may read.
SEARCH = """
umask 077
for secret in /etc/lab-secret /etc/lab-token; do
    cut -d' ' -f2 $secret >/run/lab-pattern
    grep -rlaF -f /run/lab-pattern /var/log /run/log
    find / /run /tmp -xdev -type f -perm -o=r -newer /run/cloud-init/enabled -exec grep -laF -f /run/lab-pattern {} +
done
rm /run/lab-pattern
"""


class Recorded(Program):
    """Keeps all that was said."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.said = []

    def run(self, *arguments, **options):
        result = super().run(*arguments, **options)
        self.said += [result.out, result.err]
        return result


@pytest.fixture(scope="module", name="secret")
def fixture_secret():
    return secrets.token_hex(16)


@pytest.fixture(scope="module", name="token")
def fixture_token():
    return secrets.token_hex(16)


@pytest.fixture(scope="module", name="hunt")
def fixture_hunt(secret, token):
    with Hunt(secret, token) as hunt:
        yield hunt


@pytest.fixture(scope="module", name="images")
def fixture_images(tmp_path_factory):
    directory = tmp_path_factory.mktemp("debian")
    return {version: build_image(version, str(directory / f"{version}.qcow2")) for version in ("1.0.0", "2.0.0")}


@pytest.fixture(scope="module", name="network")
def fixture_network(tmp_path_factory):
    with dhcp_network.Network(str(tmp_path_factory.mktemp("network"))) as network:
        yield network


@pytest.fixture(scope="module", name="guest")
def fixture_guest(images, network, sweep, hunt):
    sweep(f"{PREFIX}-")
    with Fleet(1, PREFIX, images, network, USER_DATA, version="1.0.0", start=True) as fleet:
        yield fleet[0]


@pytest.fixture(scope="module", name="program")
def fixture_program(guest, images):
    program = Recorded(guest.fleet.path("store"), guest.fleet.dir)
    for version, path in images.items():
        program("image-publish", "debian", version, path)
    program("set-define", "-", stdin=MODEL.format(domain=guest.name))
    program("adopt", "identity", guest.name, "--version", "1.0.0")
    return program


@pytest.fixture(scope="module", name="define")
def fixture_define(guest, program, secret, token):
    """Defines the set with the profile and extensions, and more keys."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", program.path("key")], check=True)
    for name, text in (("user-data", CUSTOM_DATA % secret), ("token", token), ("app.sh", SCRIPT), ("tools.sh", SCRIPT), ("register.sh", REGISTER)):
        os.chmod(program.write(name, text), 0o600)

    def define(more="", profile=""):
        text = MODEL.format(domain=guest.name) + PROFILE.replace("osProfile:\n", "osProfile:\n" + profile) + more
        program("set-define", program.write("model.yaml", text))
    return define


def lines(guest, name):
    """Of a file on the data disk; none where it is not there."""
    return guest.sh(f"cat /data/{name} 2>/dev/null || true").splitlines()


def move(guest, program, version, *command, **options):
    """Runs the command, after which the guest has booted once more, that version."""
    boots = len(guest.boots())
    result = program(*command, timeout=900, **options)
    guest.wait_boot(version, boots=boots + 1)
    assert set(guest.boots()[boots:]) <= {("1.0.0", "Healthy"), ("2.0.0", "Healthy")}
    return result


def instance_of(guest, seed):
    """What user-data writes, of a path of a seed."""
    return f"{guest.uuid}-{os.path.basename(seed).split('.')[0]}-2.0.0 on 2.0.0"


def seeds(guest, program):
    return sorted(glob.glob(os.path.join(program.root, "disks", guest.uuid, "*.seed.iso")))


def statuses(results):
    return {one["name"]: (one["status"], one["exitCode"]) for one in results}


def log_in(guest, program, identity):
    """With the model's key, to a host that must have that key; what the host calls itself."""
    known = program.write("known_hosts", f"{identity['address']} {identity['host-key']}\n")
    options = [word for option in ("StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "BatchMode=yes", "ConnectTimeout=60")
               for word in ("-o", option)]
    return guest.fleet.network.run("ssh", "-F", "none", "-i", program.path("key"), *options, f"root@{identity['address']}", "hostname", timeout=120)


def test_a_new_disk_and_back(guest, program):
    """Without an osProfile: cloud-init finds the seed that the guest was made with."""
    guest.sh("dd if=/dev/urandom of=/data/payload bs=64k count=16 2>/dev/null; sync")
    payload = "stat -c %i /data/payload; sha256sum /data/payload"
    first, data = guest.identity(), guest.sh(payload)
    assert first["hostname"] == guest.name and first["machine-id"] == guest.uuid.replace("-", "")

    move(guest, program, "2.0.0", "upgrade", "identity")
    second = guest.identity()
    # A machine-id that a template leaves open becomes the domain's UUID, and the DHCP client is known by it; only the host key is new.
    assert {**second, "host-key": None} == {**first, "host-key": None} and second["host-key"] != first["host-key"]
    assert guest.sh(payload) == data
    instance = f"{guest.name}-by-hand"
    assert lines(guest, "instances") == [f"{instance} on 1.0.0", f"{instance} on 2.0.0"]

    move(guest, program, "1.0.0", "rollback", "identity", guest.name)
    assert guest.identity() == first and guest.sh(payload) == data
    assert len(lines(guest, "instances")) == 2  # the old disk knows that instance


def test_a_run_that_crashes_leaves_no_core(program, define):
    """All secrets are read before the first guest is touched.  In the store: anywhere else the process of a run may not write anyway."""
    define("upgradePolicy: {approval: true}\n")
    run = subprocess.Popen(program.command("upgrade", "identity"), cwd=program.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
    for line in run.stdout:
        program.said.append(line)
        if "approve" in line:
            break
    run.send_signal(signal.SIGABRT)
    program.said.append(run.communicate(timeout=60)[0])
    assert run.returncode == -signal.SIGABRT and not glob.glob(os.path.join(program.root, "core*"))


def test_a_url_that_the_guest_asks_for(guest, program, define, tmp_path):
    """C5, from: guest, with the wget that is in it."""
    (tmp_path / "there").write_text("welcome")
    argv = [sys.executable, "-u", "-m", "http.server", "--bind", dhcp_network.HOST, "--directory", tmp_path, "8080"]
    server = subprocess.Popen(guest.fleet.network.command(*argv), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout.readline().startswith(b"Serving")
        url = f"http://{dhcp_network.HOST}:8080"
        define(f"externalResources: [{{url: '{url}/there', from: guest}}, {{url: '{url}/gone', from: guest}}]\n")
        line = program("upgrade", "identity", status=REFUSED).error()
        assert f"externalResources[1]: {url}/gone answered 404" in line and "[outside-url]" in line and "externalResources[0]" not in line
        define(f"externalResources: [{{url: '{url}/there', from: guest}}]\n")
        program("plan", "identity")
    finally:
        server.terminate()
        server.wait()
    assert f"asked for in '{guest.name}'" in program("plan", "identity", status=REFUSED).out


def test_the_seed_of_a_generation(guest, program, define, secret, token):
    """C1, C2, C6, C7: cloud-init takes it, beside the one that the guest was made with; C3, C4: extensions in order. F7: on the way back nothing
    runs again.  A machine-id that the old disk got meanwhile stays there."""
    define()
    first, ran = guest.identity(), lines(guest, "instances")
    guest.sh(f"echo {MACHINE_ID} >/etc/machine-id")  # it counts from the next boot of this disk on
    move(guest, program, "2.0.0", "upgrade", "identity")
    second = guest.identity()
    assert {**second, "host-key": None} == {**first, "host-key": None}
    assert log_in(guest, program, second) == f"{guest.name}\n"
    (seed,) = seeds(guest, program)
    assert lines(guest, "instances") == [*ran, instance_of(guest, seed)]
    assert guest.sh("stat -c %a /etc/lab-secret; cat /etc/lab-secret").split() == ["600", guest.name, secret]
    assert guest.sh("cat /run/lab-vendor") == "vendor\n"
    assert '"place": "identity/2.0.0"' in guest.sh("cat /run/cloud-init/instance-data.json")
    assert f"MACAddress={guest.mac}" in guest.sh("cat /etc/systemd/network/*")
    assert guest.sh("grep -c WARN /var/log/cloud-init.log || true") == "0\n"
    assert lines(guest, "extensions") == [f"{name} on 2.0.0" for name in ("tools", "register", "app")]
    view = program.json("instance-view", "identity", guest.name)
    assert statuses(view["extensions"]) == {name: ("Succeeded", 0) for name in ("tools", "register", "app")}
    assert guest.sh("cat /etc/lab-token") == token
    assert guest.sh(SEARCH) == ""

    move(guest, program, "1.0.0", "rollback", "identity", guest.name)
    third = guest.identity()
    assert (third["hostname"], third["machine-id"], third["host-key"]) == (first["hostname"], MACHINE_ID, first["host-key"])
    assert third["address"] != first["address"]
    assert len(lines(guest, "instances")) == len(ran) + 1 and len(lines(guest, "extensions")) == 3


def test_an_extension_that_fails(guest, program, define):
    """C3, C4: what comes after it is skipped, another one runs, and the guest is put back; its user-data ran once on that disk, too."""
    define()
    program.write("register.sh", REGISTER + DENIED)
    first, ran, extended, known = guest.identity(), lines(guest, "instances"), lines(guest, "extensions"), seeds(guest, program)
    run = move(guest, program, "1.0.0", "upgrade", "identity", status=POLICY)
    assert guest.identity() == first
    assert lines(guest, "extensions") == [*extended, "tools on 2.0.0", "register on 2.0.0"]
    (seed,) = set(seeds(guest, program)) - set(known)
    assert lines(guest, "instances") == [*ran, instance_of(guest, seed)]
    view = program.json("instance-view", "identity", guest.name)
    assert statuses(view["triedExtensions"]) == {"tools": ("Succeeded", 0), "register": ("Failed", 22), "app": ("Skipped", None)}
    assert view["lastSwap"]["reason"] == "extension register ended with status 22: the token *** was refused"
    assert "0 successful, 1 failed (1 of them restored)" in run.out


def change_when_told(guest):
    """Files of the shop, after all has been read for the first time; what is there then."""
    cheap_guest.wait_for(lambda: "EventId" in guest.sh(f"cat {NOTICE_FILE} || true"), 120, "a notice")
    guest.sh("cd /etc/shop; echo meanwhile >state; echo new >new; chmod 604 new")
    return guest.sh(SHOP_FACTS)


@pytest.mark.parametrize("source", ["guest", "disk"])
def test_what_is_carried_over(guest, program, define, hunt, source):
    """C6, C8: the same machine to ssh and to DHCP; what changes until the guest goes down comes too. And what is written offline."""
    program.write("register.sh", REGISTER)
    define(NOTICE, CARRIED.replace("FROM", source))
    first = guest.identity()
    assert first["machine-id"] == MACHINE_ID
    hunt.add(guest.sh(SHOP + "cat tls/key"))
    boots = len(guest.boots())
    run = program.start("reimage", "identity", guest.name, "--version", "2.0.0")
    shop = change_when_told(guest)
    said = run.communicate(timeout=900)
    program.said += said
    assert run.returncode == 0, said
    guest.wait_boot("2.0.0", boots=boots + 1)
    assert guest.identity() == first and log_in(guest, program, first) == f"{guest.name}\n"
    assert guest.sh(SHOP_FACTS) == shop
    assert guest.sh("stat -c '%a %U:%G' /etc/lab-offline; cat /etc/lab-offline").split() == ["640", "www-data:adm", guest.name]
    assert guest.sh(f"cat /data/first-boot-{source}") == "once\n"
    assert guest.sh("grep -c WARN /var/log/cloud-init.log || true") == "0\n"


def test_the_secrets_are_found_nowhere(guest, program, hunt):
    """Invariant 29: of all that the tests before have done."""
    program("set-dump", "identity")
    for command in (["set-info", "identity"], ["status", "identity"], ["plan", "identity", "--version", "2.0.0"],
                    ["generations", "identity", guest.name], ["instance-view", "identity", guest.name]):
        program(*command)
        program("--json", *command)
    for one in program.json("history", "identity")["runs"]:
        program("history", "identity", "--run", one["runId"])
        program("--json", "history", "identity", "--run", one["runId"])
    assert not [text for text in program.said if hunt.is_in(text)]
    assert hunt.in_processes == set()
    made = seeds(guest, program)
    assert all(stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0 for path in made)
    assert hunt.in_files(guest.fleet.dir, but=[".qcow2", ".raw"]) == sorted([*made, program.path("user-data"), program.path("token")])
    assert hunt.in_files("/var/log", "/run/log", "/run/libvirt", "/etc/libvirt", "/var/lib/libvirt", "/var/crash", "/var/lib/systemd",
                         guest.fleet.network.dir) == []
    assert hunt.in_open_files(*EVERYWHERE) == []
