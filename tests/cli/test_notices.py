# SPDX-License-Identifier: LGPL-2.1-or-later
"""J7: others are told that a run was asked for, whether it begins, and how it ended; and none of them is ever waited for."""
import hashlib
import hmac
import json
import os
import sqlite3
import subprocess
import sys
import time

import jsonschema
import pytest

from lib import cheap_guest, secret_hunt
from lib.certificates import Authority, DAY
from lib.webhook import GIB, Webhook
from program import DONE, FAILED, NO_LIBVIRT, TOP, USAGE, crashing_image

ASKED, RESULT, ENDED = "RequestSubmitted", "RequestResult", "CompletionResult"
HOOK = "#!/bin/sh\nprintf '%s %s %s ' \"$1\" \"$2\" \"$3\" >> {log}\ncat >> {log}\necho >> {log}\n"
KEY = "the key of the signature, line one"
with open(os.path.join(TOP, "docs/notices.schema.json"), encoding="utf-8") as schema:
    SCHEMA = jsonschema.Draft202012Validator(json.load(schema))


class Told:
    """Where notices go in a test: a configuration, and a directory of hooks."""

    def __init__(self, directory, monkeypatch):
        self.directory = str(directory)
        self.hooks = os.path.join(self.directory, "hooks.d")
        os.mkdir(self.hooks, 0o755)
        self.path = os.path.join(self.directory, "virt-reimage.conf")
        self.configure()
        monkeypatch.setenv("VIRT_REIMAGE_CONF", self.path)

    def configure(self, **keys):
        keys = {"hooks": self.hooks, **keys}
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("[notices]\n" + "".join(f"{key}={value}\n" for key, value in keys.items()))

    def hook(self, name, script=HOOK):
        log = os.path.join(self.directory, f"{name}.log")
        path = os.path.join(self.hooks, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(script.format(log=log))
        os.chmod(path, 0o755)
        return log


    def deliverers(self):
        """Processes of this configuration."""
        return [pid for pid in os.listdir("/proc") if pid.isdigit() and self.path.encode() in environment_of(pid)]


def environment_of(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


@pytest.fixture(name="told")
def fixture_told(tmp_path, monkeypatch):
    one = Told(tmp_path, monkeypatch)
    yield one
    one.configure(hooks="")  # who stays to try again finds that nobody is there
    cheap_guest.wait_for(lambda: one.deliverers() == [], 40, "no process is left of this test")


@pytest.fixture(name="lab", scope="module")
def fixture_lab(make_lab):
    return make_lab(2, "told", batch=50)


def lines(path):
    """What a hook was given: (event, set, run, notice)."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        words = [line.rstrip("\n").split(" ", 3) for line in file if line.endswith("}\n")]
    found = [(event, name, run, json.loads(body)) for event, name, run, body in words]
    for _, _, _, notice in found:
        if "schemaVersion" in notice:  # else it is one of fill()
            SCHEMA.validate(notice)
    return found


def outbox(program):
    return program.json("-c", NO_LIBVIRT, "notices")


def states(program):
    return [one["state"] for notice in outbox(program)["notices"] for one in notice["deliveries"]]


def wait_told(condition, what, seconds=60):
    cheap_guest.wait_for(condition, seconds, what)


def refuse(program):
    """A request that is refused, and needs no guest: two notices."""
    return program("-c", NO_LIBVIRT, "upgrade", "shop", status=FAILED).error()


def deliver(program, **options):
    return program("notices", "--deliver", **options)


def errors(program):
    return {one["error"] for notice in outbox(program)["notices"] for one in notice["deliveries"]}


# ---- runs ----


def test_a_run_tells_three(lab, told):
    key = os.path.join(told.directory, "key")
    with open(key, "w", encoding="utf-8") as file:
        file.write(KEY + "\n")
    os.chmod(key, 0o600)
    log = told.hook("10-mail")
    with Webhook() as web:
        told.configure(webhook=web.url, webhookSecretFile=key)
        done = lab.program("upgrade", lab.set_name, "--version", "2.0.0", "--reason", "CVE-2026-1")
        assert done.err == "" or "notice" not in done.err
        wait_told(lambda: len(web.requests) >= 3 and len(lines(log)) >= 3, "the end of the run is told")
    run = lab.program.json("history", lab.set_name)["runs"][0]["runId"]
    asked, begun, ended = web.notices
    assert [one["kind"] for one in web.notices] == [ASKED, RESULT, ENDED]
    assert {one["requestId"] for one in web.notices} == {asked["requestId"]} and len({one["id"] for one in web.notices}) == 3
    assert {one["set"] for one in web.notices} == {lab.set_name} and {one["operation"] for one in web.notices} == {"upgrade"}
    assert [one["runId"] for one in web.notices] == [None, run, run]
    assert asked["request"] == {"version": "2.0.0", "role": None, "instances": [], "all": False}
    assert begun["result"] == "Accepted" and begun["error"] is None and begun["reason"] == "CVE-2026-1"
    assert ended["status"] == "Completed" and ended["progress"]["successfulInstanceCount"] == 2 and ended["error"] is None
    assert ended["targetImageReference"] == {"name": "cheap", "version": "2.0.0"}
    assert ended["startTime"] < ended["completedTime"] <= ended["time"]
    for path, headers, body in web.requests:
        assert path == "/in" and headers["Content-Type"] == "application/json"
        assert headers["X-Virt-Reimage-Id"] == json.loads(body)["id"]
        assert headers["X-Virt-Reimage-Event"] == json.loads(body)["kind"]
        assert headers["X-Virt-Reimage-Signature"] == "sha256=" + hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
    assert lines(log) == [(one["kind"], lab.set_name, one["runId"] or "-", one) for one in web.notices]
    cheap_guest.wait_for(lambda: set(states(lab.program)) == {"Delivered"}, 10, "all is delivered")
    shown = outbox(lab.program)
    assert shown["nextDelivery"] is None and [one["kind"] for one in shown["notices"]] == [ENDED, RESULT, ASKED]
    text = lab.program("notices", lab.set_name).out
    assert "CompletionResult" in text and "Completed" in text and "hook/10-mail, webhook" in text and run in text
    assert lab.program("notices", "nobody").out == ""


def test_nobody_is_waited_for(lab, told):
    """A webhook that never answers and a hook that does not end: the run has ended, and its command, before either took anything."""
    gate = os.path.join(told.directory, "gate")
    log = told.hook("10-hangs", "#!/bin/sh\nwhile [ ! -e " + gate + " ]; do sleep 0.1; done\n" + HOOK.split("\n", 1)[1])
    with Webhook("hang") as web:
        told.configure(webhook=web.url)
        lab.program("reimage", lab.set_name, lab.names[0])
        run = lab.program.json("history", lab.set_name)["runs"][0]
        assert run["operation"] == "reimage" and run["runningStatus"]["code"] == "Completed"
        taken = [one["state"] for notice in outbox(lab.program)["notices"][:3] for one in notice["deliveries"]]
        assert "Delivered" not in taken and lines(log) == []
        assert web.held.acquire(timeout=20)  # it was asked
        web.behave = 200
        web.release()
        open(gate, "w", encoding="ascii").close()
        wait_told(lambda: [one[0] for one in lines(log)] == [ASKED, RESULT, ENDED], "the hook got all of them in their order", 90)
        wait_told(lambda: web.kinds()[-1:] == [ENDED], "the webhook too", 90)


def test_refused_and_nothing_to_do(lab, told):
    log = told.hook("a")
    line = lab.program("upgrade", lab.set_name, "--version", "9.9.9", status=FAILED).error()
    lab.program("upgrade", lab.set_name, "--version", "2.0.0", "--dry-run")
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    wait_told(lambda: len(lines(log)) >= 4, "both are told")
    (_, _, _, first), (event, _, run, refused), (_, _, _, asked), (_, _, _, nothing) = lines(log)
    assert first["kind"] == asked["kind"] == ASKED and first["request"]["version"] == "9.9.9"
    assert event == RESULT and run == "-" and refused["result"] == "Refused"
    assert refused["error"]["message"] in line and refused["requestId"] == first["requestId"]
    assert nothing["result"] == "NothingToDo" and nothing["requestId"] == asked["requestId"]


def test_a_run_that_fails(lab, told):
    log = told.hook("a")
    lab.program("image-publish", "cheap", "2.5.0", crashing_image(lab.program, "2.5.0"))
    lab.program.run("upgrade", lab.set_name, "--version", "2.5.0")
    wait_told(lambda: [one[0] for one in lines(log)] == [ASKED, RESULT, ENDED], "its end is told")
    ended = lines(log)[-1][3]
    assert ended["status"] == "Faulted" and ended["error"]["code"] and ended["progress"]["restoredInstanceCount"] == 1
    lab.program("image-exclude", "cheap", "2.5.0")


def test_killed_and_recovered(lab, told):
    """The end of a run whose process was killed is told once, by whoever recovers it."""
    log = told.hook("a")
    run = lab.program.start("reimage", lab.set_name, lab.names[0])
    run.wait_line("swapping")
    run.kill()
    run.communicate()
    lab.program("recover", lab.set_name)
    lab.program("recover", lab.set_name)
    wait_told(lambda: [one[0] for one in lines(log)] == [ASKED, RESULT, ENDED], "its end is told")
    ended = lines(log)[-1][3]
    assert ended["status"] == "Faulted" and ended["error"]["code"] == "InternalExecutionError"
    assert ended["requestId"] == lines(log)[0][3]["requestId"]
    deliver(lab.program)
    assert len(lines(log)) == 3


def test_detached(lab, told):
    log = told.hook("a")
    lab.program("reimage", lab.set_name, lab.names[1], "--detach")
    wait_told(lambda: [one[0] for one in lines(log)] == [ASKED, RESULT, ENDED], "its end is told")
    assert lines(log)[-1][3]["status"] == "Completed"
    wait_told(lambda: lab.status()["lockHolder"] is None, "its process has ended")


def test_an_edit_that_applies_itself(lab, told):
    log = told.hook("a")
    policy = "  mode: Rolling\n"
    model = lab.program.model(lab.set_name, lab.names, policy=policy, more="osProfile: {customData: {text: '#cloud-config'}}\n")
    lab.program("set-define", "-", stdin=model)
    wait_told(lambda: [one[0] for one in lines(log)] == [ASKED, RESULT, ENDED], "its end is told")
    assert {one[3]["operation"] for one in lines(log)} == {"apply"} and lines(log)[0][3]["request"]["all"]


def test_a_hook_is_not_confined_as_a_run_is(lab, told):
    """A run may write to nothing but the store (SAFETY 4.26); what it leaves to deliver runs the admin's programs, which may."""
    log = told.hook("a", "#!/bin/sh\necho fresh > {log}.file && mv {log}.file {log}.moved && rm {log}.moved\n" + HOOK.split("\n", 1)[1])
    lab.program("reimage", lab.set_name, lab.names[0])
    wait_told(lambda: [one[0] for one in lines(log)] == [ASKED, RESULT, ENDED], "its end is told")


# ---- without a guest ----


def be_patient_no_more(program):
    """What would wait its 5 s is due now."""
    db = sqlite3.connect(f"{program.root}/state.db")
    db.execute("UPDATE notice_channels SET next_us = 0")
    db.commit()
    db.close()


@pytest.mark.parametrize("behave, error", [
    (500, "answered 500"), (401, "answered 401"), ("redirect", "answered 302, a redirect, which is not followed"),
    ("close", "127.0.0.1"), ("garbage", "127.0.0.1"), ("headers", "headers")])
def test_a_webhook_that_fails(defined, told, behave, error):
    """What is not taken waits, in its order, and is there when the receiver is well again; without a word of this to the command."""
    with Webhook(behave) as web:
        told.configure(webhook=web.url + "?token=of-the-url-itself")
        refuse(defined)
        wait_told(lambda: any(error in (one or "") for one in errors(defined)), error)
        assert "of-the-url" not in defined("-c", NO_LIBVIRT, "notices").out and "/in" not in str(errors(defined))
        assert web.sent < GIB // 16
        assert set(web.kinds()) == {ASKED}  # the second waits for the first
        assert outbox(defined)["nextDelivery"] is not None
        web.behave = 204
        if behave != 500:
            be_patient_no_more(defined)
        wait_told(lambda: states(defined) == ["Delivered"] * 2, "the left process has tried again")
        assert web.kinds()[-2:] == [ASKED, RESULT]
        assert len({one["id"] for one in web.notices}) == 2
        assert {path for path, _, _ in web.requests} == {"/in?token=of-the-url-itself"}  # no redirect was followed


def test_a_webhook_that_says_too_much(defined, told):
    with Webhook("flood") as web:
        told.configure(webhook=web.url)
        refuse(defined)
        wait_told(lambda: states(defined) == ["Delivered"] * 2, "200 is all that is asked for")
        assert web.kinds() == [ASKED, RESULT] and web.sent < GIB // 16


def test_a_webhook_that_hangs(defined, told):
    with Webhook("hang") as web:
        told.configure(webhook=web.url)
        refuse(defined)
        assert web.held.acquire(timeout=20)  # and the command has ended
        deliver(defined)  # another one is at it: it does not wait either
        assert len(web.requests) == 1
        wait_told(lambda: any("timed out" in (one or "").lower() for one in errors(defined)), "ten seconds")
        web.behave = 200
        web.release()
        wait_told(lambda: states(defined) == ["Delivered"] * 2, "it was tried again")


def test_a_notice_that_is_never_taken(defined, told):
    """400: the others do not wait for it."""
    with Webhook(400) as web:
        told.configure(webhook=web.url)
        refuse(defined)
        wait_told(lambda: states(defined) == ["GivenUp"] * 2, "given up")
        assert len(web.requests) == 2 and "given up" in defined("notices").out
        assert outbox(defined)["nextDelivery"] is None


def test_nobody_listens(defined, told):
    told.configure(webhook="http://127.0.0.1:9/in")
    refuse(defined)
    wait_told(lambda: any("127.0.0.1:9" in (one or "") for one in errors(defined)), "it was tried")


def test_https(defined, told):
    authority = Authority(told.directory)
    with Webhook(certificate=authority.issue("web", -DAY, DAY)) as web:
        told.configure(webhook=web.url)
        refuse(defined)
        wait_told(lambda: any("certificate" in (one or "") for one in errors(defined)), "a certificate of nobody's")
        assert web.requests == []
        told.configure(webhook=web.url, webhookCaFile=authority.path("ca.pem"))
        wait_told(lambda: states(defined) == ["Delivered"] * 2, "it is trusted")


@pytest.mark.parametrize("keys, error", [
    ({"webhook": "http://10.0.0.1/in"}, "must begin with https://: http only reaches this host itself"),
    ({"webhook": "https://ada:secret@host/in"}, "must not hold a user or a password"),
    ({"webhook": "http://localhost:9/", "webhookSecretFile": "{open}"}, "others can read or write"),
    ({"webhook": "http://localhost:9/", "webhookSecretFile": "{absent}"}, "absent")])
def test_a_webhook_that_is_not_asked(defined, told, keys, error):
    path = os.path.join(told.directory, "open")
    with open(path, "w", encoding="utf-8") as file:
        file.write("key")
    os.chmod(path, 0o644)
    told.configure(**{key: value.format(open=path, absent=os.path.join(told.directory, "absent")) for key, value in keys.items()})
    refuse(defined)
    wait_told(lambda: any(error in (one or "") for one in errors(defined)), error)
    assert error in defined("-c", NO_LIBVIRT, "notices").out
    assert "ada:secret" not in str(outbox(defined))


def test_doctor_says_who_is_told(defined, told):
    def check():
        return next(one for one in defined.run("--json", "doctor").json["checks"] if one["check"] == "notices")
    assert check()["result"] == "ok" and "no hook, webhook or journal is told" in check()["text"]
    told.hook("10-mail")
    told.configure(webhook="https://localhost/in")
    assert check()["result"] == "ok" and "webhook, hook/10-mail" in check()["text"]
    os.chmod(os.path.join(told.hooks, "10-mail"), 0o777)
    assert check()["result"] == "warn" and "can be written to by others" in check()["text"]


def test_a_configuration_that_cannot_be_read(defined, told):
    with open(told.path, "a", encoding="utf-8") as file:
        file.write("nonsense=1\n")
    failed = defined("-c", NO_LIBVIRT, "upgrade", "shop", status=FAILED)
    assert "warning: notices wait for 'virt-reimage notices --deliver'" in failed.err and "nonsense" in failed.err
    assert "nonsense" in deliver(defined, status=USAGE).error()
    log = told.hook("a")
    told.configure()
    deliver(defined)
    assert [one[0] for one in lines(log)] == [ASKED, RESULT]


def test_a_request_whose_process_was_killed(defined, told):
    """Before it came to a run; the next look finds that it is gone."""
    log = told.hook("a")
    db = sqlite3.connect(f"{defined.root}/state.db")
    refuse(defined)
    wait_told(lambda: len(lines(log)) == 2, "a first one")
    db.execute("DELETE FROM notices WHERE kind = 1")
    db.commit()
    db.close()
    deliver(defined)
    wait_told(lambda: len(lines(log)) == 2 or len(lines(log)) == 3, "looked at")
    defined("-c", NO_LIBVIRT, "upgrade", "shop", status=FAILED)
    wait_told(lambda: len(lines(log)) == 5, "all are told")
    lost = [one for _, _, _, one in lines(log)[2:] if "process" in (one.get("error") or {}).get("message", "")]
    assert len(lost) == 1 and lost[0]["requestId"] == lines(log)[0][3]["requestId"]


def test_usage(defined):
    assert "--wait" in defined.fails(USAGE, "notices", "--wait")
    assert "--deliver" in defined.fails(USAGE, "notices", "--deliver", "shop")
    assert defined("notices", "--deliver").out == ""


def fill(program, count):
    """Notices that wait, as vr_outbox_settle() leaves them."""
    db = sqlite3.connect(f"{program.root}/state.db")
    for number in range(count):
        body = json.dumps({"id": f"n{number}", "kind": RESULT, "set": "shop", "operation": "upgrade", "result": "NothingToDo"})
        db.execute("INSERT INTO notices (id, kind, at_us, set_name, request_id, body) VALUES (?, 1, ?, 'shop', ?, ?)",
                   (f"n{number}", int(time.time() * 1000000), f"r{number}", body))
    db.commit()
    db.close()


def test_a_deliverer_that_is_killed(defined, told):
    """At least once, and in the order in which they were written; what is there twice has the same id."""
    log = told.hook("a")
    with Webhook() as web:
        told.configure(webhook=web.url)
        fill(defined, 60)
        for wanted in (5, 20, 40):
            one = subprocess.Popen(defined.command("notices", "--deliver"))
            wait_told(lambda: len(web.requests) >= wanted, "some are delivered")
            one.kill()
            one.wait()
        deliver(defined)
        seen = [one["id"] for one in web.notices]
    first_seen = list(dict.fromkeys(seen))
    assert first_seen == [f"n{number}" for number in range(60)] and len(seen) <= 63
    assert list(dict.fromkeys(one["id"] for _, _, _, one in lines(log))) == first_seen
    assert set(states(defined)) == {"Delivered"}


def test_killed_while_a_hook_runs(defined, told):
    """The hook goes with it, and is called again."""
    log = told.hook("a", "#!/bin/sh\necho $$ >> {log}.pid\n[ -e {log}.go ] || sleep 1000\n" + HOOK.split("\n", 1)[1])
    fill(defined, 1)
    one = subprocess.Popen(defined.command("notices", "--deliver"))
    wait_told(lambda: os.path.exists(f"{log}.pid"), "the hook has begun")
    with open(f"{log}.pid", encoding="ascii") as file:
        wait_told(lambda: file.seek(0) == 0 and file.read().endswith("\n"), "its pid is there")
        file.seek(0)
        pid = int(file.read())
    one.kill()
    one.wait()
    wait_told(lambda: not is_alive(pid), "the hook is gone")
    open(f"{log}.go", "w", encoding="ascii").close()
    deliver(defined)
    assert [notice["id"] for _, _, _, notice in lines(log)] == ["n0"]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_deliverer_that_waits_goes_with_its_store(defined, told):
    told.configure(webhook="http://127.0.0.1:9/in")
    fill(defined, 1)
    one = subprocess.Popen(defined.command("notices", "--deliver", "--wait"))
    try:
        wait_told(lambda: states(defined) == ["Waiting"] and list(errors(defined))[0], "it was tried")
        os.rename(defined.root, f"{defined.root}.away")
        assert one.wait(timeout=30) == DONE
        assert not os.path.exists(defined.root)
        os.rename(f"{defined.root}.away", defined.root)
    finally:
        one.kill()
        one.wait()


def test_the_secrets_are_found_nowhere(defined, told):
    """Not in arguments, environments, the outbox or what is printed: the key, and what the URL has after the host."""
    token = "token-4f1d9c2b7a80e6"
    key = os.path.join(told.directory, "key")
    with open(key, "w", encoding="utf-8") as file:
        file.write("key-of-hmac-93ab17c0de55\n")
    os.chmod(key, 0o600)
    told.hook("a")
    with Webhook(500) as web, secret_hunt.Hunt(token, "key-of-hmac-93ab17c0de55") as hunt:
        told.configure(webhook=f"{web.url}/{token}?sig={token}", webhookSecretFile=key)
        refuse(defined)
        wait_told(lambda: web.requests and any("500" in (one or "") for one in errors(defined)), "it was tried")
        shown = defined("-c", NO_LIBVIRT, "--debug", "notices")
        debugged = defined("--debug", "notices", "--deliver")
        web.behave = 200
        wait_told(lambda: len(states(defined)) == 4 and set(states(defined)) == {"Delivered"}, "it was taken")
    for text in (shown.out, shown.err, debugged.out, debugged.err, json.dumps(outbox(defined))):
        assert not hunt.is_in(text)
    assert not hunt.in_processes and hunt.in_files(defined.root) == []


# ---- the journal ----

IN_NAMESPACE = """
import json, os, socket, struct, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
os.makedirs("/run/systemd/journal")
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
done = subprocess.run(sys.argv[1:], capture_output=True)
assert done.returncode == 1, done
journal.settimeout(30)

def parse(data):
    fields = {}
    while data:
        line, _, data = data.partition(b"\\n")
        name, equals, value = line.partition(b"=")
        if not equals:  # its length follows
            (length,) = struct.unpack("<Q", data[:8])
            value, data = data[8:8 + length], data[9 + length:]
        fields[name.decode()] = value.decode()
    return fields

print(json.dumps([parse(journal.recv(1 << 20)) for _ in range(2)]))
"""


def test_the_journal(defined, told):
    """A socket in a mount namespace that is not the host's takes what journald would."""
    command = defined.command("-c", NO_LIBVIRT, "upgrade", "shop", "--reason", "two\nlines")
    done = subprocess.run(["unshare", "--mount", sys.executable, "-c", IN_NAMESPACE, *command], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    asked, refused = json.loads(done.stdout)
    assert asked["MESSAGE_ID"] == "aa9953cd71a649febb6d5b0d72384627" and refused["MESSAGE_ID"] == "22faa21eda484ff4a9ab46012c480f4b"
    assert asked["VIRT_REIMAGE_KIND"] == ASKED and refused["VIRT_REIMAGE_KIND"] == RESULT
    assert asked["VIRT_REIMAGE_SET"] == refused["VIRT_REIMAGE_SET"] == "shop" and refused["VIRT_REIMAGE_OUTCOME"] == "Refused"
    assert (asked["PRIORITY"], refused["PRIORITY"]) == ("6", "4")
    assert "upgrade was refused" in refused["MESSAGE"] and "\n" not in refused["MESSAGE"]
    notice = json.loads(refused["VIRT_REIMAGE_JSON"])
    assert notice["id"] == refused["VIRT_REIMAGE_NOTICE"] and notice["reason"] == "two\nlines"
    wait_told(lambda: states(defined) == ["Delivered"] * 2, "that is known")


def test_without_a_journal(defined, told):
    """Nobody is there to be told: nothing fails, and nothing is left running."""
    refuse(defined)
    deliver(defined)
    assert states(defined) == [] and outbox(defined)["nextDelivery"] is None
    assert [one["kind"] for one in outbox(defined)["notices"]] == [RESULT, ASKED]
