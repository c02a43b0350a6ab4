# SPDX-License-Identifier: LGPL-2.1-or-later
"""C5: what a run needs from outside is looked at before any guest is stopped, and again between batches, on real guests."""
import base64
import http.server
import json
import os
import subprocess
import threading
import time

import pytest

from lib.certificates import DAY, Authority
from program import DONE, POLICY, REFUSED, events

SECRET = "s3cret-signature"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(403 if self.path.startswith("/denied") else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module", name="port")
def fixture_port():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "outside", batch=50)


def jwt(lab, name, lasts):
    """A token file; lasts: seconds from now on."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) + lasts, "sub": SECRET}).encode()).decode()
    return lab.program.write(name, f"header.{claims.rstrip('=')}.{SECRET}")


def needs(*items):
    return "externalResources:\n" + "".join(f"- {item}\n" for item in items)


def untouched(lab, *arguments):
    """The command is refused with exit status 4, and every guest runs on as it did; returns the line."""
    ids = [guest.domain.ID() for guest in lab.fleet]
    boots = [guest.booted_versions() for guest in lab.fleet]
    line = lab.program.fails(REFUSED, *arguments)
    assert [guest.domain.ID() for guest in lab.fleet] == ids
    assert [guest.booted_versions() for guest in lab.fleet] == boots
    return line


def test_an_expired_certificate_and_a_denied_url(lab, port):
    authority = Authority(lab.program.work)
    expired = authority.issue("shop.example", -2 * DAY, -DAY)
    lab.define(batch=50, more=needs(f"{{certificate: {expired}}}"))
    line = untouched(lab, "upgrade", lab.set_name, "--version", "2.0.0")
    assert f"externalResources[0]: the certificate of 'shop.example' in {expired} expired on 20" in line
    assert "[outside-expires]; no guest was touched; renew it" in line
    for command in (("reimage", lab.set_name, lab.names[0]), ("upgrade", lab.set_name, "--version", "2.0.0", "--dry-run")):
        assert "[outside-expires]" in untouched(lab, *command)

    lab.define(batch=50, more=needs(f"{{url: 'http://127.0.0.1:{port}/'}}", f"{{url: 'http://127.0.0.1:{port}/denied?x'}}"))
    line = untouched(lab, "upgrade", lab.set_name, "--version", "2.0.0")
    assert f"externalResources[1]: http://127.0.0.1:{port}/denied?... answered 403, where 200 to 299 is expected" in line
    assert "[outside-url]; no guest was touched; renew what gives access to it" in line
    plan = lab.program("--json", "plan", lab.set_name, "--version", "2.0.0", status=REFUSED).json
    (finding,) = [one for one in plan["findings"] if one["id"].startswith("outside-")]
    assert finding["domain"] is None and finding["severity"] == "blocker" and not finding["ignored"]
    out = lab.program("plan", lab.set_name, "--version", "2.0.0", status=REFUSED).out
    assert f"blocker: {finding['text']} [outside-url]; {finding['remedy']}" in out


def test_a_token_that_expires_in_the_middle(lab, port):
    """The first batch is moved; the token is found expired before the second, which is not touched. What a person lets pass is in the audit;
    the way back needs neither."""
    token, old = jwt(lab, "token", 2 * DAY), jwt(lab, "old", -60)
    gate = lab.program.write("gate", f"#!/bin/sh\nif [ $3 = 2 ]; then cp {old} {token}; fi\n")
    os.chmod(gate, 0o755)
    more = needs(f"{{token: {{file: {token}}}}}", f"{{url: 'http://127.0.0.1:{port}/denied'}}")
    lab.define(batch=50, policy=f"  gate: [{gate}]\n", more=more)
    second = lab.fleet[1].domain.ID()
    line = lab.program("upgrade", lab.set_name, "--version", "2.0.0", "--ignore", "outside-url", status=POLICY).error()
    assert f"externalResources[0]: the token in {token} expired on 20" in line and "[outside-expires]" in line
    assert "1 upgraded, 0 restored, 1 not touched" in line
    assert lab.versions() == {lab.names[0]: "2.0.0", lab.names[1]: "1.0.0"}
    assert lab.fleet[1].domain.ID() == second and lab.fleet[1].booted_versions() == ["1.0.0"]
    assert [text for text in events(lab.program, "ignored") if "[outside-url]" in text]
    assert "[outside-expires]" in untouched(lab, "upgrade", lab.set_name, "--version", "2.0.0", "--ignore", "outside-url")
    lab.program("rollback", lab.set_name, lab.names[0])
    assert lab.versions() == lab.all_on("1.0.0")


def test_a_signature_is_shown_nowhere(lab, port):
    """Neither by a command, nor in the journal, the history or a log."""
    url = lab.program.write("sas", f"https://127.0.0.1:{port}/denied?sv=1&sig={SECRET}&se=2020-01-01T00%3A00%3A00Z\n")
    bearer = lab.program.write("bearer", f"Authorization: Bearer {SECRET}\n")
    lab.define(batch=50, more=needs(f"{{url: {{file: {url}}}, headers: {{file: {bearer}}}}}"))
    said = untouched(lab, "upgrade", lab.set_name, "--version", "2.0.0")
    assert f"the signature of https://127.0.0.1:{port}/denied?... expired on 2020-01-01T00:00:00.000Z" in said
    for command in (("plan", lab.set_name), ("--json", "plan", lab.set_name), ("set-dump", lab.set_name),
                    ("history", lab.set_name), ("--json", "history", lab.set_name)):
        done = lab.program.run(*command)
        said += done.out + done.err
    assert SECRET not in said
    found = subprocess.run(["grep", "-rl", SECRET, lab.program.root], capture_output=True, text=True, check=False)
    assert found.stdout == ""


def test_a_guest_that_cannot_ask(lab, port):
    """from: guest, of a guest without an agent."""
    lab.define(batch=50, more=needs(f"{{url: 'http://127.0.0.1:{port}/', from: guest}}"))
    line = untouched(lab, "upgrade", lab.set_name, "--version", "2.0.0")
    assert f"asked for in '{lab.names[0]}': its guest agent does not answer" in line
    lab.program("plan", lab.set_name, "--version", "1.0.0", status=DONE)  # nobody is to be moved, so nothing is needed
    lab.define(batch=50)
    lab.program("plan", lab.set_name, "--version", "2.0.0", status=DONE)
