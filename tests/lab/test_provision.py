# SPDX-License-Identifier: LGPL-2.1-or-later
"""Extensions on real guests with a real agent (C3, C4, E6): a token that expires in the middle of a run, and a secret that is found nowhere."""

import http.server
import subprocess
import threading

import pytest

from guest import Guest

TOKEN = "s3cr3t-t0k3n-0f-th3-l4b"
MODEL = """
schemaVersion: 1
name: {set}
imageReference: {{name: lab-linux, version: {version}}}
upgradePolicy:
  rollingUpgradePolicy: {{maxBatchInstancePercent: 50, maxUnhealthyInstancePercent: 100, maxUnhealthyUpgradedInstancePercent: 50}}
healthProfile: {{healthTimeout: PT60S}}
extensionProfile:
  extensions:
  - {{name: app, script: app.sh, provisionAfterExtensions: [register], settings: {{port: 80}}}}
  - {{name: tools, command: [/opt/tools.sh, hello], files: [{{source: tools.sh, path: /opt/tools.sh, mode: "0755"}}]}}
  - {{name: register, script: register.sh, timeout: PT1M, protectedSettings: {{file: token}}}}
osDisk: {{kind: overlay, target: vda}}
tempDisks: [vdc]
stop: {{method: agent, timeout: PT30S, force: true}}
instances: [{instances}]
"""
REGISTER = """#!/bin/sh
token=$(cat)
grep -l "$token" /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null && exit 9
mount | grep ' /run '
wget -q -O /run/registered --header "Authorization: $token" http://10.0.2.2:{port}/ && exit 0
echo "the token $token was refused" >&2
exit 22
"""
APP = """#!/bin/sh -e
cp "$VIRT_REIMAGE_SETTINGS" /srv/app.json
cp /run/registered /srv/registered
"""
TOOLS = "#!/bin/sh\necho \"$1 from $(cat /etc/lab-version)\" | tee /srv/tools\n"


class Registry(http.server.BaseHTTPRequestHandler):
    """Takes the token once; then it has expired."""

    tokens = []

    def do_GET(self):  # noqa: N802
        self.tokens.append(self.headers["Authorization"])
        self.send_response(200 if len(self.tokens) == 1 else 403)
        self.end_headers()
        self.wfile.write(b"welcome")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def registry():
    Registry.tokens.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def write_model(directory, lab, names, port):
    """Beside it lies what it names. The version that the guests run is pinned: a later one may have failed in a test before."""
    instances = ", ".join(f"{{domain: {name}}}" for name in names)
    model = MODEL.format(set=names[0].rsplit("-", 1)[0], version=lab.versions()[names[0]], instances=instances)
    files = {"app.sh": APP, "tools.sh": TOOLS, "register.sh": REGISTER.format(port=port), "token": TOKEN + "\n", "model.yaml": model}
    for name, text in files.items():
        (directory / name).write_text(text)
    (directory / "token").chmod(0o600)
    return directory / "model.yaml"


def statuses(results):
    return {one["name"]: (one["status"], one["exitCode"]) for one in results}


def test_token_that_expires(lab, registry, tmp_path):
    """Rows C3, C4, C11, E6, E12: what needs the one that failed is skipped, others run, its guest is restored; the first one stays. The edit reached them by apply."""
    first, second = lab.names[-2:]
    name = first.rsplit("-", 1)[0]
    lab.settle()
    before = Guest(second).facts()["inside"]
    lab.run("set-define", str(write_model(tmp_path, lab, (first, second), registry.server_address[1])))
    said = []
    try:
        plan = lab.run("plan", name)
        assert "extensions: in each guest, once it runs from its new disk: tools, then register, then app" in plan.stdout
        done = lab.run("apply", name, first, second, status=6)
        said += [plan.stdout, done.stdout, done.stderr]
        assert Registry.tokens == [TOKEN, TOKEN]
        good, bad = lab.json("instance-view", name, first), lab.json("instance-view", name, second)
        assert statuses(good["extensions"]) == {"tools": ("Succeeded", 0), "register": ("Succeeded", 0), "app": ("Succeeded", 0)}
        assert good["extensions"][0]["statuses"][0]["code"] == "ProvisioningState/succeeded"
        assert good["health"]["state"] == "Healthy" and good["latestModelApplied"]
        guest = Guest(first)
        assert guest.read("/srv/app.json") == '{"port":80}' and guest.read("/srv/registered") == "welcome"
        assert guest.read("/srv/tools").startswith("hello from ") and guest.run("/bin/ls", "/run/virt-reimage") == ""

        Guest(second).wait_for_agent(120)
        assert bad["extensions"] == [] and Guest(second).facts()["inside"]["boot_id"] != before["boot_id"]
        assert statuses(bad["triedExtensions"]) == {"tools": ("Succeeded", 0), "register": ("Failed", 22), "app": ("Skipped", None)}
        reason = "extension register ended with status 22: the token *** was refused"
        assert bad["lastSwap"]["state"] == "UNDONE" and bad["lastSwap"]["reason"] == reason
        run = lab.json("history", name)["runs"][0]["runId"]
        history = lab.run("history", name, "--run", run).stdout
        assert f"extensions of {second}: tools Succeeded in " in history and reason in history
        said += [history, lab.run("--json", "history", name, "--run", run).stdout, str(good), str(bad),
                 lab.run("instance-view", name, second).stdout, lab.run("set-dump", name).stdout]
        assert all(TOKEN not in text for text in said)
        found = subprocess.run(["grep", "-rlaF", TOKEN, str(lab.root), "/var/log", "/run/log"], capture_output=True,
                               text=True, check=False)
        assert found.stdout == ""
    finally:
        lab.run("set-define", str(lab.dir / "lab.yaml"))
