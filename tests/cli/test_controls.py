# SPDX-License-Identifier: LGPL-2.1-or-later
"""A person's word to a run: G2, G3, G4, D15, D17, D20, D21, F3, F4, F5, F10, G10, G11; --detach, and a run that outlives its process."""
import json
import os
import signal
import socket
import sqlite3
import time

import pytest

from lib import schemas
from program import DONE, FAILED, OWNED, POLICY, REFUSED, USAGE, crashing_image, wait_for

PAUSE = "    pauseTimeBetweenBatches: PT1S\n"
LONG_PAUSE = "    pauseTimeBetweenBatches: PT15S\n"  # who looks late finds the run in it
ENDLESS_PAUSE = "    pauseTimeBetweenBatches: PT5M\n"
SILENT = "applicationHealth: {protocol: tcp, port: 1}, "  # nobody answers there: a guest is on its way until healthTimeout


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "control", batch=50, upgrade_domains=2, policy=PAUSE)


@pytest.fixture(name="version")
def fixture_version(lab, request):
    """A version of the test's own, which no guest runs; and no run is open when it begins."""
    number = f"{10 + list(request.session.items).index(request.node)}.0.0"
    lab.program.publish(number)
    lab.define(batch=50, upgrade_domains=2, policy=PAUSE)
    return number


def wait_point(lab, *points):
    return wait_for(lab, lambda status: status["openRun"] and status["openRun"]["point"] in points)


def wait_end(lab):
    return wait_for(lab, lambda status: status["openRun"] is None and status["lockHolder"] is None)


def detach(lab, version, *options):
    begun = lab.program("upgrade", lab.set_name, "--version", version, "--detach", *options)
    assert "run " in begun.out and "goes on by itself" in begun.err
    return lab.status()["runId"]


def kill(lab, number=signal.SIGKILL):
    os.kill(int(lab.status()["lockHolder"].split("(pid ")[1].split(",")[0]), number)
    return wait_for(lab, lambda status: status["lockHolder"] is None)


def wait_first_batch(lab):
    wait_for(lab, lambda status: status["progress"]["inProgressInstanceCount"] == 1)


def versions_of(status):
    return [one["version"] for one in status["instances"]]


def only_says(lab, command, *words):
    """G10: a dry run of a word that the run waits for; it goes on waiting."""
    before = lab.status()
    assert "now" in lab.program(command, lab.set_name, *words, "--dry-run").out
    time.sleep(0.5)
    after = lab.status()
    assert (after["openRun"], after["progress"]) == (before["openRun"], before["progress"])


def test_a_pause_survives_its_process(lab, version):
    """G3, F5, G11, point 8: paused at the border; who is refused meanwhile; killed, and gone on with, still paused."""
    run = detach(lab, version)
    assert run in lab.program("pause", lab.set_name).out
    told = lab.program.json("pause", lab.set_name)  # K4: one document, also where it changes nothing
    assert told["set"] == lab.set_name and not told["dryRun"]
    status = wait_point(lab, "paused")
    assert status["openRun"]["hold"] == "paused" and status["openRun"]["detached"] and status["openRun"]["processAnswers"]
    assert not status["locked"] and status["rollbackAllowed"] and status["runningStatus"]["code"] == "RollingForward"
    assert "paused: 'resume' goes on" in lab.program("status", lab.set_name).out
    moved = status["progress"]["successfulInstanceCount"]
    time.sleep(1.5)  # longer than the pause between batches
    assert lab.status()["progress"]["successfulInstanceCount"] == moved < 2
    for refused in (["upgrade", lab.set_name], ["reimage", lab.set_name, "--all"], ["rollback", lab.set_name, lab.names[0]],
                    ["set-undefine", lab.set_name], ["adopt", lab.set_name, lab.names[0], "--version", "1.0.0"]):
        assert "cancel" in lab.program.fails(OWNED, *refused)
    assert "does not wait for that" in lab.program.fails(REFUSED, "promote", lab.set_name)
    assert "does not wait for 'walk'" in lab.program.fails(REFUSED, "walk", lab.set_name, "1")
    assert "already" in lab.program("pause", lab.set_name, "--dry-run").out
    assert "now" in lab.program("resume", lab.set_name, "--dry-run").out
    dry = lab.program.json("resume", lab.set_name, "--dry-run")
    assert dry["dryRun"] and run in dry["message"]

    kill(lab)
    status = lab.status()
    assert status["openRun"]["point"] == "interrupted" and not status["openRun"]["processAnswers"]
    assert f"resume {lab.set_name}" in lab.program("status", lab.set_name).out
    assert f"resume {lab.set_name}" in lab.program("upgrade", lab.set_name, status=OWNED).error()
    assert "is open" in lab.program("recover", lab.set_name).out
    assert f"run {run} goes on" in lab.program.json("pause", lab.set_name)["message"]  # it goes on, and stays paused
    assert wait_point(lab, "paused")["runId"] == run
    time.sleep(0.5)
    assert lab.status()["openRun"]["point"] == "paused"
    lab.program("resume", lab.set_name)
    status = wait_end(lab)
    assert status["runId"] == run and status["runningStatus"]["code"] == "Completed"
    assert status["progress"]["successfulInstanceCount"] == 2 and lab.versions() == lab.all_on(version)
    assert "no run is open" in lab.program.fails(REFUSED, "resume", lab.set_name)


def test_killed_in_a_batch(lab, version):
    """Invariant 22: one that dies with a guest on its way; the one that goes on settles that guest first and loses no count."""
    run = detach(lab, version)
    wait_first_batch(lab)
    kill(lab)
    lab.program("resume", lab.set_name)
    status = wait_end(lab)
    assert status["runId"] == run and status["runningStatus"]["code"] == "Completed", status
    assert status["progress"]["successfulInstanceCount"] == 2 and lab.versions() == lab.all_on(version)


def test_terminated_it_ends_at_the_border_and_stays_open(lab, version):
    """A host that goes down sends SIGTERM: no guest is left between two disks."""
    lab.define(batch=50, upgrade_domains=2, policy=ENDLESS_PAUSE)
    run = detach(lab, version)
    wait_for(lab, lambda status: status["progress"]["inProgressInstanceCount"] + status["progress"]["successfulInstanceCount"] == 1)
    status = kill(lab, signal.SIGTERM)
    assert status["openSwapCount"] == 0 and status["openRun"]["point"] == "interrupted"
    assert status["progress"]["successfulInstanceCount"] == 1
    assert "is cancelled" in lab.program.json("cancel", lab.set_name)["message"]
    status = lab.status()
    assert status["runId"] == run and status["runningStatus"]["code"] == "Cancelled" and status["openRun"] is None


def test_what_cannot_begin_ends_nothing(lab, version):
    """D21, F4: a word that was mistyped does not end the run in flight."""
    lab.define(batch=50, upgrade_domains=2, policy="  approval: true\n")
    detach(lab, version)
    wait_point(lab, "approval")
    assert "9.9.9" in lab.program.fails(FAILED, "upgrade", lab.set_name, "--version", "9.9.9", "--replace")
    assert "'nobody'" in lab.program.fails(FAILED, "upgrade", lab.set_name, "--replace", "--canary", "nobody")
    assert "9.9.9" in lab.program.fails(FAILED, "upgrade", lab.set_name, "--version", "9.9.9", "--replace", "--detach")
    assert "--to-generation" in lab.program.fails(USAGE, "rollback", lab.set_name, "--all", "--to-generation", "0")
    assert lab.status()["openRun"]["point"] == "approval"
    lab.program("cancel", lab.set_name)
    wait_end(lab)


def test_goes_on_badly(lab, version):
    """B17, point 8: where the new process cannot begin the run stays open; a word that does not fit is refused, and not lost."""
    run = detach(lab, version, "--walk")
    wait_point(lab, "walk")
    kill(lab)
    log = os.path.join(lab.program.root, "run", lab.set_name, "log")
    os.rename(log, f"{log}.kept")
    os.mkdir(log)
    assert f"run {run} of '{lab.set_name}' stays open" in lab.program("resume", lab.set_name, status=FAILED).error()
    os.rmdir(log)
    assert lab.status()["openRun"]["point"] == "interrupted"
    line = lab.program("walk", lab.set_name, "7", status=REFUSED).error()
    assert "nothing that may be moved" in line and wait_point(lab, "walk")["runId"] == run
    lab.program("pause", lab.set_name)
    kill(lab)
    assert "does not wait for 'walk'" in lab.program("walk", lab.set_name, "0", status=REFUSED).error()
    lab.program("resume", lab.set_name)
    wait_point(lab, "walk")
    kill(lab)
    lab.program("walk", lab.set_name, "0")
    wait_for(lab, lambda status: status["progress"]["successfulInstanceCount"] == 1)
    wait_point(lab, "walk")
    kill(lab)
    lab.program("pause", lab.set_name)
    kill(lab)
    lab.program("cancel", lab.set_name)
    wait_end(lab)
    said = [row[0].split(" by ")[0] for row in events(lab, run, "control")]
    assert said == ["resume", "pause", "resume", "walk", "pause", "cancel"]  # invariant 28: whoever heard it


def events(lab, run, kind):
    database = sqlite3.connect(f"file:{lab.program.root}/state.db?mode=ro", uri=True)
    try:
        return database.execute("SELECT text FROM events WHERE run_id = ? AND kind = ? ORDER BY seq", (run, kind)).fetchall()
    finally:
        database.close()


def test_a_worker_is_killed_before_it_has_begun(lab, version):
    """Point 8: the command says so, and does not just fail."""
    database = sqlite3.connect(os.path.join(lab.program.root, "state.db"), isolation_level=None)
    database.execute("BEGIN IMMEDIATE")  # it waits for this
    command = lab.program.start("upgrade", lab.set_name, "--version", version, "--detach")
    children = f"/proc/{command.pid}/task/{command.pid}/children"
    deadline = time.monotonic() + 20
    while not (worker := open(children, encoding="ascii").read().split()) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(int(worker[0]), signal.SIGKILL)
    _, err = command.communicate(timeout=30)
    database.execute("ROLLBACK")
    database.close()
    assert command.returncode == FAILED and "killed by signal 9" in err and f"status {lab.set_name}" in err
    assert lab.status()["openRun"] is None


def test_walk(lab, version):
    """G4, in the foreground, from another terminal. D27: the other upgrade domain is left alone until its turn."""
    run = lab.program.start("upgrade", lab.set_name, "--version", version, "--walk")
    wait_point(lab, "walk")
    assert "nothing that may be moved" in lab.program.fails(REFUSED, "walk", lab.set_name, "7")
    assert "numbered from 0" in lab.program.fails(USAGE, "walk", lab.set_name, "web")
    only_says(lab, "walk", "0")
    for done, domain in enumerate(("1", "0")):
        status = wait_point(lab, "walk")
        assert status["progress"]["successfulInstanceCount"] == versions_of(status).count(version) == done
        assert {one["powerState"] for one in status["instances"]} == {"running"}
        lab.program("walk", lab.set_name, domain)
    _, err = run.communicate(timeout=60)
    assert run.returncode == DONE, err
    assert lab.versions() == lab.all_on(version)
    shown = lab.program.json("history", lab.set_name, "--run", lab.status()["runId"])
    assert [one["batch"] for one in shown["instances"]] == [2, 1]


def test_checkpoint(lab, version):
    """D15: held when half of the set is moved; 'promote' need not wait for the hour."""
    lab.define(batch=50, upgrade_domains=2, policy="  checkpoints: {percent: [50], wait: PT1H}\n")
    detach(lab, version)
    status = wait_point(lab, "checkpoint")
    assert status["progress"]["successfulInstanceCount"] == 1 and status["openRun"]["holdUntil"]
    lab.program("promote", lab.set_name)
    wait_end(lab)
    assert lab.versions() == lab.all_on(version)


def test_canary(lab, version):
    """D17"""
    detach(lab, version, "--canary", lab.names[1])
    status = wait_point(lab, "canary")
    assert versions_of(status)[1] == version != versions_of(status)[0]
    assert "'promote'" in lab.program("status", lab.set_name).out
    only_says(lab, "promote")
    lab.program("promote", lab.set_name)
    wait_end(lab)
    assert lab.versions() == lab.all_on(version)
    assert "cannot be a canary" in lab.program.fails(REFUSED, "upgrade", lab.set_name, "--version", version, "--canary", lab.names[0])
    assert "'nobody'" in lab.program("upgrade", lab.set_name, "--version", "3.0.0", "--canary", "nobody", status=FAILED).error()


def test_cancel_now_puts_back_what_is_on_its_way(lab, version):
    """G2"""
    before = lab.versions()
    lab.define(batch=50, upgrade_domains=2, health=SILENT)
    detach(lab, version)
    wait_first_batch(lab)
    lab.program("cancel", lab.set_name, "--now")
    status = wait_end(lab)
    assert status["runningStatus"]["code"] == "Cancelled" and status["openSwapCount"] == 0
    assert status["instances"][0]["lastRun"] == {"phase": "restored", "batch": 1, "reason": "the run was cancelled"}  # and not for its health
    assert lab.versions() == before


def test_rollback_in_flight(lab, version):
    """F4: what was moved goes back, what was not is not touched."""
    before = lab.versions()
    run = detach(lab, version)
    wait_for(lab, lambda status: status["progress"]["successfulInstanceCount"] == 1 and
             status["progress"]["inProgressInstanceCount"] == 1)
    assert "is open" in lab.program("rollback", lab.set_name, "--all", "--run", "20000101-000000-0000", status=OWNED).error()
    done = lab.program("rollback", lab.set_name, "--all")
    assert f"ending run {run} first" in done.err
    assert lab.versions() == before
    runs = lab.program.json("history", lab.set_name)["runs"]
    assert [one["operation"] for one in runs[:2]] == ["rollback", "upgrade"]
    assert runs[0]["progress"]["successfulInstanceCount"] == 1 and runs[0]["progress"]["skippedInstanceCount"] == 1
    assert runs[1]["runningStatus"]["code"] == "Cancelled"


def test_approval(lab, version):
    """D20: nothing is touched before it, also when it comes to a process that is gone; and what is ended before it has moved nothing."""
    before = lab.versions()
    lab.define(batch=100, policy="  approval: true\n")
    run = detach(lab, version)
    wait_point(lab, "approval")
    told = lab.program.json("rollback", lab.set_name, "--all")  # and not what an older run had moved
    assert (told["event"], told["runId"]) == ("nothingToDo", run)
    assert lab.versions() == before and lab.status()["runningStatus"]["code"] == "Cancelled"
    run = detach(lab, version)
    status = wait_point(lab, "approval")
    assert status["progress"]["pendingInstanceCount"] == 2 and status["openSwapCount"] == 0
    only_says(lab, "approve")
    the_socket_is_hostile_ground(lab)
    kill(lab)
    assert run in lab.program("approve", lab.set_name).out
    assert wait_end(lab)["runId"] == run
    assert lab.versions() == lab.all_on(version)


def test_prepared_ahead(lab, version):
    """B7: the next disk is made while the first guest boots; a pause discards it, and it is made again."""
    lab.define(batch=50, upgrade_domains=2, policy=LONG_PAUSE)
    run = lab.program.start("--json", "upgrade", lab.set_name, "--version", version)
    wait_for(lab, lambda status: status["openRun"] and
             lab.program.json("generations", lab.set_name, lab.names[1])["generations"][-1]["state"] == "new")
    lab.program("pause", lab.set_name)
    wait_point(lab, "paused")
    assert lab.status()["openSwapCount"] == 0
    assert lab.program.json("generations", lab.set_name, lab.names[1])["generations"][-1]["state"] == "discarded"
    lab.program("resume", lab.set_name)
    out, err = run.communicate(timeout=60)
    assert run.returncode == DONE, err
    steps = [(one["domain"], one["phase"]) for one in map(json.loads, out.splitlines()) if one["event"] == "instance"]
    first, second = lab.names
    assert steps.index((first, "probing")) < steps.index((second, "preparing")) < steps.index((first, "committed"))
    assert steps.count((second, "preparing")) == 2 and lab.versions() == lab.all_on(version)


def test_replace(lab, version):
    """D21: the first ends at its batch border; the second starts from what it has left."""
    lab.program.publish("99.0.0")
    lab.define(batch=50, upgrade_domains=2, policy=LONG_PAUSE)
    first = detach(lab, version)
    wait_first_batch(lab)
    lab.program("upgrade", lab.set_name, "--version", "99.0.0", "--replace")
    assert lab.versions() == lab.all_on("99.0.0")
    run = lab.program.json("history", lab.set_name)["runs"][1]
    assert run["runId"] == first and run["runningStatus"]["code"] == "Cancelled"
    assert run["progress"]["successfulInstanceCount"] == 1 and run["progress"]["pendingInstanceCount"] == 1


def test_detach_says_why_it_cannot_begin(lab, version):
    assert "9.9.9" in lab.program.fails(FAILED, "upgrade", lab.set_name, "--version", "9.9.9", "--detach")
    assert "run" not in lab.program("upgrade", lab.set_name, "--version", "99.0.0", "--detach").err  # nothing to do
    assert lab.status()["openRun"] is None


def test_amends_and_retry(lab):
    """F3: what was left on the bad disk goes back when the policy has stopped the run. F10: only what failed is tried again."""
    lab.program("image-publish", "cheap", "100.0.0", crashing_image(lab.program, "100.0.0"))
    lab.define(batch=50, upgrade_domains=2, policy="    rollbackFailedInstancesOnPolicyBreach: true\n")
    line = lab.program("upgrade", lab.set_name, "--version", "100.0.0", "--no-auto-rollback", status=POLICY).error()
    assert "put back" in line and lab.versions() == lab.all_on("99.0.0")
    status = lab.status()
    assert status["rollbackInfo"]["successfullyRolledbackInstanceCount"] == 1
    dry = lab.program.json("retry", lab.set_name, "--dry-run", status=DONE)
    assert [one["domain"] for batch in dry["batches"] for one in batch["instances"]] == [lab.names[0]]
    lab.program("retry", lab.set_name, status=POLICY)
    assert lab.versions() == lab.all_on("99.0.0")


def the_socket_is_hostile_ground(lab):
    """Requests that nobody should send."""
    path = os.path.join(lab.program.root, "run", lab.set_name, "control")
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    base = f"/virtualMachineScaleSets/{lab.set_name}/rollingUpgrades/"
    for request, status in ((f"GET {base}latest", 200), (f"POST {base}latest", 405), (f"GET {base}pause", 405), (f"DELETE {base}cancel", 405),
                            (f"POST {base}fly", 404), ("GET /", 404), ("POST /virtualMachineScaleSets/other/rollingUpgrades/cancel", 404),
                            (f"POST {base}walk", 400), (f"POST {base}walk?upgradeDomain=x", 400), (f"POST {base}walk?upgradeDomain=4294967296", 400),
                            (f"POST {base}walk?upgradeDomain=1", 409), (f"POST {base}promote", 409)):
        assert ask(path, f"{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0] == status, request
    assert ask(path, f"POST {base}cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + "x" * 100000)[0] is None
    assert ask(path, f"GET /{'x' * 20000} HTTP/1.1\r\nHost: x\r\n\r\n")[0] in (None, 400, 414, 431)
    assert ask(path, "\0\1\2nonsense\r\n\r\n")[0] in (None, 400)
    idle = [socket.socket(socket.AF_UNIX) for _ in range(15)]  # one less than are served, saying nothing
    for one in idle:
        one.connect(path)
    status, body = ask(path, f"GET {base}latest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status == 200 and json.loads(body)["point"] == "approval"
    for one in idle:
        one.close()
    assert lab.status()["openRun"]["point"] == "approval"  # and it is where it was
    the_socket_says(lab)


def the_socket_says(lab):
    """docs/schemas/control.schema.json; and nothing of what only its next process would want."""
    said = [lab.program.control(lab.set_name, "POST", word) for word in ("pause", "pause", "resume", "resume")]
    assert [(status, one["answer"]) for status, one in said] == [(200, "now"), (200, "already"), (200, "now"), (200, "already")]
    status, where = lab.program.control(lab.set_name, "GET", "latest")
    assert (status, where["hold"], where["copies"], where["runId"]) == (200, "approval", [], lab.status()["runId"])
    status, error = lab.program.control(lab.set_name, "POST", "walk?upgradeDomain=x")
    assert (status, error["error"]["code"]) == (400, "Usage")


def ask(path, request):
    """(status, body); (None, "") where the connection was closed."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(15)
        client.connect(path)
        try:
            client.sendall(request.encode())
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
        except (BrokenPipeError, ConnectionResetError):
            return None, ""
    if not answer:
        return None, ""
    head, _, body = answer.decode().partition("\r\n\r\n")
    if body.startswith("{"):
        schemas.check(json.loads(body), "control")
    return int(head.split()[1]), body
