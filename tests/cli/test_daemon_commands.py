# SPDX-License-Identifier: LGPL-2.1-or-later
"""K1, B17, G2, H1: commands that the daemon does for a client: the same bytes and exit status as without it, and who outlives whom."""
import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
import traceback

import pytest

from lib import cheap_guest, unix_http
from lib.daemon import Daemon
from program import BINARY, DONE, FAILED, IMAGE, NO_LIBVIRT, OWNED, REFUSED, USAGE, Program, Result, Running, wait_for

DAEMON = os.path.join(os.path.dirname(BINARY), "virt-reimaged")
JOB_UNIT = os.path.join(os.path.dirname(BINARY), "virt-reimage-job")
NOBODY = 65534


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "daemon", batch=50, upgrade_domains=2)


@pytest.fixture(name="daemon")
def fixture_daemon(lab):
    made = Daemon(DAEMON, lab.program.root)
    try:
        yield made.start()
    finally:
        made.clean_up()


@pytest.fixture(name="there")
def fixture_there(lab, daemon):
    """The program that asks the daemon; lab.program does all by itself."""
    return Program(lab.program.root, lab.program.work, lab.program.uri, daemon.dir)


@pytest.fixture(name="version")
def fixture_version(lab, request):
    """A version that no guest runs; and no run is open when the test begins."""
    number = f"{100 + list(request.session.items).index(request.node)}.0.0"
    lab.program.publish(number)
    return number


def wait_end(lab):
    return wait_for(lab, lambda status: status["openRun"] is None and status["lockHolder"] is None)


def finish(process, timeout=90):
    out, err = process.communicate(timeout=timeout)
    assert "Sanitizer" not in err, err
    return process.returncode, out, err


def holder_of(lab):
    holder = lab.status()["lockHolder"]
    return int(holder.split("(pid ")[1].split(",")[0]) if holder else None


def shown(result):
    """But for how much room there is by now, when it was asked, and where: a command to type names no store that is the daemon's."""
    said = re.sub(r'("freeBytes": |"time": |store_free_bytes\S* )("[^"]*"|\d+)', r"\1#", result.out)
    return result.status, without_store(without_room(said)), result.err


def without_store(said):
    return re.sub(r"(virt-reimage)(\s+--(connect|root)\s+\S+)+ ", r"\1 ", said)


def without_room(said):
    return re.sub(r"[0-9.]+\s[KMGT]iB free", "# free", said)


def both(lab, there, daemon, *arguments, **options):
    """The same command both ways: equal in what it prints, where, and how it ends. Returns the result."""
    alone = lab.program.run(*arguments, **options)
    before = len(daemon.jobs())
    through = there.run(*arguments, **options)
    assert len(daemon.jobs()) == before + 1, (arguments, daemon.said())
    assert shown(through) == shown(alone), arguments
    return through


# ---- the same, both ways ----

def readings(lab):
    name, one = lab.set_name, lab.names[0]
    return [["image-list"], ["image-list", IMAGE], ["--json", "image-list"], ["-q", "image-list"], ["image-list", "nope"],
            ["image-info", IMAGE], ["image-info", IMAGE, "1.0.0", "--json"], ["image-info", IMAGE, "9.9.9"],
            ["image-verify", IMAGE, "1.0.0"], ["set-list"], ["--json", "set-list"], ["set-info", name], ["set-info", name, "--json"],
            ["set-info", "nope"], ["set-dump", name], ["plan", name], ["plan", name, "--json"], ["plan", name, "--version", "7.7.7"],
            ["status", name], ["status", name, "--json"], ["status", "nope"], ["status", "../x"], ["instance-view", name, one],
            ["instance-view", name, "nope"], ["instance-view", name, one, "--json"], ["history", name], ["history", name, "--json"],
            ["history", name, "--azure"], ["history", name, "--run", "nope"], ["generations", name, one],
            ["generations", name, one, "--json"], ["recover", "--dry-run"], ["gc", name, "--dry-run"],
            ["upgrade", name, "--dry-run"], ["rollback", name, one, "--dry-run"], ["cancel", name], ["status", name, "--debug"],
            ["metrics"], ["triggers"], ["triggers", name], ["triggers", "nope"], ["notices"], ["notices", name],
            ["notices", name, "--json"], ["notices", "nope"]]


def test_reading_commands_are_the_same_both_ways(lab, there, daemon):
    """K1, K4: what they print and how they end, wrong input too."""
    statuses = {both(lab, there, daemon, *words).status for words in readings(lab) if "--debug" not in words}
    assert statuses >= {DONE, FAILED, REFUSED}
    for wrong in (["image-lst"], ["status"], ["status", "--nope"], ["history", lab.set_name, "x", "y"]):  # never get there
        before = len(daemon.jobs())
        alone, through = lab.program.run(*wrong), there.run(*wrong)
        assert (through.status, through.out, through.err) == (alone.status, alone.out, alone.err)
        assert alone.status == USAGE and len(daemon.jobs()) == before


def test_options_that_name_something_else_are_done_alone(lab, there, daemon, work):
    """-c and --root of something else never reach the daemon; nor what is of this process and its person."""
    other = Program(os.path.join(work, "other"), work, None, daemon.dir)
    assert "nothing was published" in other("set-list", status=FAILED).error()
    there.run("--connect", "test:///default", "set-list")
    there("image-check", lab.program.image("1.0.0"))
    there.run("doctor")
    assert daemon.jobs() == []
    there("--connect", "qemu:///system", "set-list")
    shutil.rmtree(os.path.join(work, "link"), ignore_errors=True)
    os.symlink(lab.program.root, os.path.join(work, "link"))
    Program(os.path.join(work, "link"), work, None, daemon.dir)("set-list")
    assert len(daemon.jobs()) == 2


def in_terminal(program, *arguments, columns=91):
    """What a terminal of that width gets."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    with subprocess.Popen(program.command(*arguments), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                          env={**program.environment, "TERM": "xterm", "LANG": "C.UTF-8"}) as process:
        os.close(slave)
        seen = b""
        try:
            while piece := os.read(master, 65536):
                seen += piece
        except OSError:
            pass  # its last writer is gone
        os.close(master)
    return process.returncode, seen


def test_on_a_terminal(lab, there, daemon):
    for words in (["status", lab.set_name], ["set-info", lab.set_name], ["status", "nope"], ["plan", lab.set_name]):
        for columns in (91, 40):
            there_said, alone_said = (in_terminal(program, *words, columns=columns) for program in (there, lab.program))
            texts = [without_store(without_room(said[1].decode())) for said in (there_said, alone_said)]
            assert there_said[0] == alone_said[0] and texts[0] == texts[1]
    assert len(daemon.jobs()) == 8


def test_what_is_closed_or_full_fails_as_it_does_alone(lab, there, daemon):
    for script in ('"$@" >&-', '"$@" >/dev/full', '"$@" | true', '"$@" 2>&- nope', '"$@" <&-'):
        said = [subprocess.run(["bash", "-c", f"set -o pipefail; {script}", "-", *program.command("set-list")], env=program.environment,
                               capture_output=True, text=True, check=False, timeout=60) for program in (lab.program, there)]
        assert [said[0].returncode, said[0].stdout, said[0].stderr] == [said[1].returncode, said[1].stdout, said[1].stderr], script
    assert len(daemon.jobs()) == 4  # "nope" is one word too many


def test_publish_from_where_one_stands_and_from_standard_input(lab, there, daemon):
    image = lab.program.image("60.0.0", name="sixty.qcow2")
    digest = subprocess.run(["sha256sum", "sixty.qcow2"], cwd=os.path.dirname(image), check=True, capture_output=True, text=True).stdout
    with open(os.path.join(os.path.dirname(image), "sums"), "w", encoding="ascii") as file:
        file.write(digest)
    there("image-publish", IMAGE, "60.0.0", "sixty.qcow2", "--digest-file", "sums", cwd=os.path.dirname(image))
    with open(image, "rb") as source:
        done = subprocess.run(there.command("image-publish", IMAGE, "61.0.0", "-", "--format", "qcow2"), stdin=source, check=False,
                              capture_output=True, text=True, env=there.environment)
    assert done.returncode == DONE, done.stderr
    assert len(daemon.jobs()) == 2
    listed = lab.program("image-list", IMAGE).out.split()
    assert "60.0.0" in listed and "61.0.0" in listed
    for version in ("60.0.0", "61.0.0"):
        there("image-delete", IMAGE, version)


def without_figures(text):
    return re.sub(r"[0-9a-f]{4}\b|\d+", "#", re.sub(r"\d+(\.\d+)? (ms|s|min.*? s)\b", "TIME", text))


def test_a_swap_and_a_rollback_both_ways(lab, there, daemon, version, monkeypatch):
    """B1, F1 through the daemon, and the words of it as without it."""
    said = []
    for program in (lab.program, there):
        up = program("upgrade", lab.set_name, "--version", version)
        assert lab.versions() == lab.all_on(version)
        down = program("rollback", lab.set_name, "--all", "--reason", "as it was")
        assert version not in lab.versions().values()
        said.append([without_figures(text) for text in (up.out, up.err, down.out, down.err)])
    assert said[0] == said[1]
    assert len(daemon.jobs()) == 2
    runs = lab.program.json("history", lab.set_name)["runs"]
    assert runs[0]["startedBy"] == runs[2]["startedBy"]
    here = there("history", lab.set_name).out
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    assert both(lab, there, daemon, "history", lab.set_name).out != here  # times are the client's


# ---- signals, and who outlives whom ----

def test_ctrl_c_once(lab, there, daemon, version):
    """G2 through the daemon; a client that is ended otherwise has pressed it, too."""
    before = lab.versions()
    run = there.start("upgrade", lab.set_name, "--version", version)
    run.wait_line("swapping")
    run.send_signal(signal.SIGINT)
    status, _, err = finish(run)
    assert status == FAILED and "finishing the batch" in err and "cancelled: 1 done, 0 put back, 1 not begun" in err
    assert lab.versions() == {**before, lab.names[0]: version}
    lab.program("rollback", lab.set_name, lab.names[0])
    assert len(daemon.jobs()) == 1


def test_ctrl_c_twice(lab, there, version):
    before = lab.versions()
    run = there.start("upgrade", lab.set_name, "--version", version)
    run.wait_line("probing")
    run.send_signal(signal.SIGINT)
    assert "Ctrl-C again" in run.stderr.readline() + run.stderr.readline()
    run.send_signal(signal.SIGTERM)
    status, _, err = finish(run)
    assert status == FAILED and "putting the guests in flight back" in err
    assert lab.versions() == before


def test_what_is_no_run_dies_of_the_signal_that_was_sent(lab, there):
    """... and as itself: a shell sees SIGTERM, though the job had a SIGINT."""
    for program in (lab.program, there):
        reader, writer = os.pipe()
        with subprocess.Popen(program.command("set-define", "-"), stdin=reader, stdout=subprocess.DEVNULL, env=program.environment) as process:
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == -signal.SIGTERM
        os.close(reader)
        os.close(writer)


def test_a_client_that_is_killed_has_pressed_ctrl_c_once(lab, there, version):
    before = lab.versions()
    run = there.start("upgrade", lab.set_name, "--version", version)
    run.wait_line("swapping")
    run.kill()
    run.communicate()
    status = wait_end(lab)
    assert status["runningStatus"]["code"] == "Cancelled" and status["progress"]["pendingInstanceCount"] == 1
    assert lab.versions() == {**before, lab.names[0]: version}
    lab.program("rollback", lab.set_name, lab.names[0])


def test_a_daemon_that_is_killed_stops_no_run(lab, there, daemon, version):
    """B17: the client says that it cannot know; the run goes on to its end; the next daemon leaves it alone."""
    run = there.start("upgrade", lab.set_name, "--version", version)
    run.wait_line("swapping")
    daemon.kill()
    assert run.wait(10) == FAILED  # and the run writes to its terminal still
    daemon.start()
    status = wait_end(lab)
    _, _, err = finish(run)
    assert "the daemon ended" in err and f"status {lab.set_name}" in err
    assert status["runningStatus"]["code"] == "Completed" and lab.versions() == lab.all_on(version)
    assert not [words for words in daemon.own_jobs() if words.split()[0] in ("resume", "pause", "recover")]
    lab.program("rollback", lab.set_name, "--all")


def test_a_run_is_taken_over(lab, there, daemon, version):
    """B17, H1: the daemon and the process of a detached run are killed; the next daemon goes on with it."""
    there("upgrade", lab.set_name, "--version", version, "--detach")
    wait_for(lab, lambda status: status["progress"]["inProgressInstanceCount"] == 1)
    run = lab.status()["runId"]
    daemon.kill()
    os.kill(holder_of(lab), signal.SIGKILL)
    wait_for(lab, lambda status: status["lockHolder"] is None)
    assert lab.status()["openRun"]["point"] == "interrupted"
    daemon.start()
    status = wait_end(lab)
    assert status["runId"] == run and status["runningStatus"]["code"] == "Completed" and lab.versions() == lab.all_on(version)
    assert f"resume -- {lab.set_name}" in daemon.own_jobs()
    lab.program("rollback", lab.set_name, "--all")


def test_a_run_that_was_paused_is_taken_over_paused(lab, there, daemon, version):
    """G3"""
    there("upgrade", lab.set_name, "--version", version, "--detach")
    there("pause", lab.set_name)
    wait_for(lab, lambda status: status["openRun"] and status["openRun"]["point"] == "paused")
    daemon.kill()
    os.kill(holder_of(lab), signal.SIGKILL)
    wait_for(lab, lambda status: status["lockHolder"] is None)
    daemon.start()
    wait_for(lab, lambda status: status["lockHolder"] and status["openRun"]["processAnswers"])
    time.sleep(1)
    assert lab.status()["openRun"]["point"] == "paused"
    there("cancel", lab.set_name)
    wait_end(lab)
    lab.program("rollback", lab.set_name, "--all")


def test_a_run_in_the_foreground_whose_process_is_killed_is_recovered(lab, there, daemon, version):
    run = there.start("upgrade", lab.set_name, "--version", version)
    run.wait_line("probing")
    os.kill(holder_of(lab), signal.SIGKILL)
    status, _, err = finish(run)
    assert status == FAILED and "killed by signal 9" in err
    assert lab.status()["openSwapCount"] > 0
    daemon.kill()
    daemon.start()
    status = wait_for(lab, lambda status: status["openSwapCount"] == 0 and status["openRun"] is None)
    assert status["runningStatus"]["code"] == "Faulted" and f"recover -- {lab.set_name}" in daemon.own_jobs()
    wait_end(lab)
    lab.program("rollback", lab.set_name, "--all")


def test_a_daemon_that_stops_leaves_runs_open_at_their_border(lab, there, daemon, version):
    """B17: one in the foreground and its client, and one that was detached; no guest is between two disks."""
    run = there.start("upgrade", lab.set_name, "--version", version)
    run.wait_line("swapping")
    assert daemon.stop() == 0
    status, _, err = finish(run)
    assert status == FAILED and "stays open" in err and f"resume {lab.set_name}" in err
    shown = lab.status()
    assert shown["openRun"]["point"] == "interrupted" and shown["openSwapCount"] == 0
    assert shown["progress"]["successfulInstanceCount"] == 1
    daemon.start()
    status = wait_end(lab)
    assert status["runId"] == shown["runId"] and lab.versions() == lab.all_on(version)
    there("rollback", lab.set_name, "--all", "--detach")
    wait_for(lab, lambda status: status["progress"]["inProgressInstanceCount"] > 0)
    assert daemon.stop() == 0
    shown = lab.status()
    assert shown["lockHolder"] is None and shown["openSwapCount"] == 0
    daemon.start()
    wait_end(lab)
    assert version not in lab.versions().values()


def test_what_cannot_be_gone_on_with_is_tried_once(lab, there, daemon, version):
    """No endless loop: reported, and left to a person."""
    there("upgrade", lab.set_name, "--version", version, "--detach")
    there("pause", lab.set_name)
    wait_for(lab, lambda status: status["openRun"] and status["openRun"]["point"] == "paused")
    daemon.kill()
    os.kill(holder_of(lab), signal.SIGKILL)
    wait_for(lab, lambda status: status["lockHolder"] is None)
    disk = os.path.join(lab.program.root, "images", IMAGE, version)
    os.rename(disk, disk + ".away")
    try:
        before = len(daemon.own_jobs())
        daemon.start()
        cheap_guest.wait_for(lambda: "it cannot be taken over" in daemon.said(), 30, "it is reported")
        time.sleep(3)
        tried = [words for words in daemon.own_jobs()[before:] if words.startswith(("pause", "resume", "recover"))]
        assert len(tried) == 1 and daemon.said().count("it cannot be taken over") == 1
    finally:
        os.rename(disk + ".away", disk)
    there("cancel", lab.set_name)
    wait_end(lab)
    lab.program("rollback", lab.set_name, "--all")


def test_a_daemon_that_hangs_is_not_waited_for(lab, there, daemon):
    """A note, and alone, within 5 s; when it goes on it begins nothing of that."""
    before = len(daemon.jobs())
    daemon.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    done = there("set-list")
    assert time.monotonic() - begun < 8 and "note: the daemon does not answer" in done.err  # 5 s, and the command itself
    assert done.out == lab.program("set-list").out
    assert "note" not in there("-q", "set-list").err
    daemon.process.send_signal(signal.SIGCONT)
    time.sleep(1)
    assert len(daemon.jobs()) == before


def test_no_daemon_and_a_socket_of_one_that_is_gone(lab, there, daemon):
    alone = lab.program("set-list")
    daemon.kill()
    assert os.path.exists(daemon.path("virt-reimage.sock"))
    through = there("set-list")
    assert (through.out, through.err) == (alone.out, alone.err)


# ---- the socket for everybody ----

class Nobody:
    """Asks as a user without privileges."""

    def __init__(self, daemon, lab):
        self.home = tempfile.mkdtemp(prefix="vrn-", dir="/tmp")
        self.binary = shutil.copy(BINARY, os.path.join(self.home, "virt-reimage"))
        self.lab = lab
        self.environment = {"PATH": os.environ["PATH"], "HOME": self.home, "XDG_DATA_HOME": self.home,
                            "VIRT_REIMAGE_SOCKET_DIR": daemon.dir, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", self.home], check=True)

    def start(self, *words, user=NOBODY, **more):
        return subprocess.Popen([self.binary, "-c", "qemu:///system", "--root", self.lab.program.root, *words], env={**self.environment, **more},
                                user=user, group=NOBODY, extra_groups=[], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def run(self, *words, **more):
        return finish(self.start(*words, **more), 30)


@pytest.fixture(name="nobody")
def fixture_nobody(daemon, lab):
    made = Nobody(daemon, lab)
    yield made
    shutil.rmtree(made.home)


def test_everybody_may_read(lab, nobody, daemon):
    """K3, J6: what root sees, of the commands on the list."""
    name, one = lab.set_name, lab.names[0]
    listed = (["status", name], ["--json", "status", name], ["history", name], ["instance-view", name, one], ["set-list"], ["set-info", name],
              ["image-list"], ["image-info", IMAGE], ["generations", name, one], ["plan", name], ["status", "nope"])
    for words in listed:
        assert shown(Result(*nobody.run(*words))) == shown(lab.program.run(*words)), words
    assert len(daemon.jobs()) == len(listed)


def test_who_may_not_is_told_what_to_type(lab, nobody, daemon):
    assert "adduser nobody virt-reimage" in nobody.run("upgrade", lab.set_name)[2]
    daemon.kill()
    assert "systemctl status virt-reimaged" in nobody.run("status", lab.set_name)[2]
    assert "adduser" not in nobody.run("status", lab.set_name)[2]


def own(nobody, *words):
    """Of guests of his own: with no libvirt and no store named."""
    done = subprocess.run([nobody.binary, *words], env={**nobody.environment, "XDG_DATA_HOME": nobody.home + "/data"}, user=NOBODY, group=NOBODY,
                          extra_groups=[], cwd="/", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == FAILED
    return done.stderr


def test_who_means_the_host_is_told_how(lab, nobody):
    """By the daemon where it does that for everybody, else as root or as a member of its group."""
    assert "'-c qemu:///system' is about the host's, and virt-reimaged does it" in own(nobody, "status", lab.set_name)
    said = own(nobody, "upgrade", lab.set_name)
    assert "with sudo it is about the host's, or with '-c qemu:///system' for a member of the group virt-reimage" in said
    assert "with sudo it is about the host's\n" in own(nobody, "set-edit", lab.set_name)


def test_who_may_not_speak_with_libvirt_is_told_how(nobody):
    done = subprocess.run([nobody.binary, "-c", NO_LIBVIRT, "--root", nobody.home, "--json", "doctor"], env=nobody.environment, user=NOBODY, group=NOBODY,
                          extra_groups=[], cwd="/", capture_output=True, text=True, timeout=60, check=False)
    (libvirt,) = [check for check in json.loads(done.stdout)["checks"] if check["check"] == "libvirt"]
    assert f"use sudo; 'sudo virsh -c {NO_LIBVIRT} list'" in libvirt["remedy"] and "sudo" not in libvirt["text"]


def test_doctor_says_who_does_the_commands(there, daemon):
    def said():
        return next(one for one in there.json("doctor")["checks"] if one["check"] == "daemon")
    assert said()["text"] == "virt-reimaged does the commands that you give" and daemon.jobs() == []
    daemon.kill()
    assert said()["result"] == "ok" and "done without it" in said()["text"]


def test_everybody_may_do_no_more_than_read(lab, nobody, daemon):
    before = lab.program.snapshot()
    name, one = lab.set_name, lab.names[0]
    for words in (["upgrade", name], ["set-dump", name], ["protect", name, one], ["image-publish", IMAGE, "9.0.0", "/etc/passwd"], ["cancel", name],
                  ["set-define", "/etc/shadow"], ["recover"], ["gc"], ["image-verify", IMAGE], ["upgrade", name, "--dry-run"]):
        assert nobody.run(*words)[0] != DONE, words
    assert daemon.jobs() == [] and lab.program.snapshot() == before


def upgrade_request(path, line, fds=(), more=b""):
    """Says by itself what a client says. Returns what the daemon says after 101, and the descriptors that came."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(path)
        peer.sendall(b"POST /commands HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: virt-reimage-command\r\nContent-Length: 0\r\n\r\n" + more)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = peer.recv(1)
            if not piece:
                return head, []
            head += piece
        if b" 101 " not in head.split(b"\r\n")[0]:
            return head, []
        if fds:
            socket.send_fds(peer, [line], list(fds))
        else:
            peer.sendall(line)
        seen, got = b"", []
        while True:
            piece, some, _, _ = socket.recv_fds(peer, 4096, 4)
            got += some
            if not piece:
                return seen, got
            seen += piece


def as_nobody(function):
    """Runs it in a child that is nobody; what it returns comes back as JSON."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writer, json.dumps(function()).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(text)


def ask_ro(daemon, argv, env=(), fds=()):
    """What a job of the read-only socket prints, asked for by hand: (lines of the daemon, standard output, standard error)."""
    def ask():
        seen, got = upgrade_request(daemon.path("virt-reimage-ro.sock"), json.dumps({"argv": argv, "env": list(env)}).encode() + b"\n", fds)
        texts = []
        for fd in got:
            with os.fdopen(fd, "rb") as pipe:
                texts.append(pipe.read().decode())
        return [seen.decode(), *texts]
    return as_nobody(ask)


def test_who_speaks_by_hand_gets_no_further(lab, daemon):
    """What a client would not ask for is refused by the job, whatever the words look like."""
    name = lab.set_name
    before = lab.program.snapshot()
    for argv in (["upgrade", name], ["set-dump", name], ["--debug", "status", name], ["status", name, "--debug"], ["-c", "test:///default", "set-list"],
                 ["--root", "/etc", "set-list"], ["set-list", "-r", "/tmp"], ["--worker-fd", "3", "status", name], ["recover", "--dry-run"],
                 ["image-verify", IMAGE], ["plan", name, "--signature", "/etc/shadow"], ["plan", name, "--print-diff"], ["image-check", "/etc/shadow"], ["help"], []):
        seen = ask_ro(daemon, argv)
        assert '"exit":0' not in seen[0] or argv == ["help"], (argv, seen)
        assert "shadow" not in "".join(seen[1:]).replace("/etc/shadow", "")
    assert ask_ro(daemon, ["set-list"])[1] == lab.program("set-list").out
    assert ask_ro(daemon, ["--root", lab.program.root, "set-list"])[1] == lab.program("set-list").out
    assert lab.program.snapshot() == before
    with open("/dev/null", "rb") as null:  # descriptors are not taken
        assert ask_ro(daemon, ["set-list"], fds=[null.fileno()] * 4) == [""]


def test_an_environment_names_no_file(daemon):
    """TZ, LANG and TERM are file names to the libraries that read them."""
    words = ["image-info", IMAGE, "1.0.0"]
    plain = ask_ro(daemon, words)
    assert ask_ro(daemon, words, env=["TZ=/etc/shadow", "LANG=/tmp/x", "LD_PRELOAD=/tmp/x.so", "VIRT_REIMAGE_DEBUG=1", "TERM=../x",
                                                  "VIRT_REIMAGE_JOB=1", "VIRT_REIMAGE_JOB_ROOT=/tmp"]) == plain


ASKER = """
import json, os, socket, sys
path, line, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
held = []
for _ in sys.stdin:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(20)
    peer.connect(path)
    peer.sendall(b"POST /commands HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\nUpgrade: virt-reimage-command\\r\\n\\r\\n")
    assert b" 101 " in peer.recv(65536)
    peer.sendall(line.encode() + b"\\n")
    answer, fds, _, _ = socket.recv_fds(peer, 4096, 4)
    held.append((peer, fds))
    print(answer.decode().splitlines()[0], flush=True)
"""


class Asker:
    """A user who asks on the read-only socket, and keeps what he gets open without reading it."""

    def __init__(self, daemon, uid, *argv):
        self.daemon = daemon
        line = json.dumps({"argv": list(argv), "env": []})
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", ASKER, daemon.path("virt-reimage-ro.sock"), line, str(uid)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self):
        """What the daemon says; a job that began is stopped, so that it holds its place."""
        self.process.stdin.write("ask\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        for pid in children_of(self.daemon):
            os.kill(pid, signal.SIGSTOP)
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def children_of(daemon):
    return children(daemon.process.pid)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return [int(child) for child in children.read().split()]


def test_one_user_does_not_fill_the_daemon(lab, there, daemon):
    """K3: two jobs of one user, eight of all of them; root gets in all the same, and whoever is gone gives his places back."""
    cheap_guest.wait_for(lambda: not children_of(daemon), 10, "it has looked at what is open")
    users = [Asker(daemon, 70000 + i, "plan", lab.set_name) for i in range(5)]
    try:
        for user in users[:4]:
            assert "started" in user.ask() and "started" in user.ask()
            assert "of this user" in user.ask()
        assert len(children_of(daemon)) == 8
        refused = users[4].ask()
        assert "Busy" in refused and "of this user" not in refused
        assert there("set-list").out == lab.program("set-list").out
        assert len(children_of(daemon)) == 8
    finally:
        for user in users:
            user.close()
        for pid in children_of(daemon):
            os.kill(pid, signal.SIGCONT)
    cheap_guest.wait_for(lambda: not children_of(daemon), 10, "the jobs of those who are gone have ended")
    assert "started" in (late := Asker(daemon, 70004, "set-list")).ask()
    for pid in children_of(daemon):
        os.kill(pid, signal.SIGCONT)
    late.close()


def ended(path, *words, **options):
    """What the daemon says to a request that it ends, maybe before the whole of it is sent."""
    try:
        return upgrade_request(path, *words, **options)[0]
    except (BrokenPipeError, ConnectionResetError):
        return b""


def test_nonsense_ends_the_connection_alone(lab, there, daemon):
    path = daemon.path("virt-reimage.sock")
    with open("/dev/null", "rb") as null:
        four = [null.fileno()] * 4
        for line, fds in ((b"\n", four), (b"[]\n", four), (b"{}\n", four), (b'{"argv":["set-list"],"env":[]}\n', ()),
                          (b'{"argv":["set-list"],"env":[]}\n', four[:2]), (b'{"argv":["set-list"],"env":[]}\n', four),
                          (b'{"argv":[1],"env":[]}\n', four), (b"\xff\xfe\n", four), (b'{"argv":"x","env":{}}\n', four),
                          (b"x" * 70000, ())):
            assert b"started" not in ended(path, line, fds), line[:50]
        assert b"started" not in ended(path, b'{"argv":["set-list"],"env":[]}\n', four, more=b'{"argv":["set-list"],"env":[]}\n')
    assert daemon.jobs() == [] and there("set-list").status == DONE


UPGRADE = b"POST /commands HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: virt-reimage-command\r\n\r\n"


def test_who_cannot_be_answered_leaves_nothing(daemon):
    """K3: a connection that takes no 101 costs no memory (AddressSanitizer says so when the daemon ends)."""
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(20)
            peer.connect(daemon.path("virt-reimage-ro.sock"))
            peer.shutdown(socket.SHUT_RD)  # the write of the other side fails
            peer.sendall(UPGRADE)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while True:  # until it has closed
                    peer.sendall(b"\n")
                    time.sleep(0.01)
    assert daemon.stop() == 0, daemon.said()


def test_signals_without_an_end_end_the_connection(lab, there, daemon):
    """K3: others are served meanwhile, and the job is told that its peer is gone."""
    def flood():
        sent = 0
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(20)
            peer.connect(daemon.path("virt-reimage-ro.sock"))
            peer.sendall(UPGRADE)
            assert b" 101 " in peer.recv(4096)
            peer.sendall(json.dumps({"argv": ["plan", lab.set_name], "env": []}).encode() + b"\n")
            answer, fds, _, _ = socket.recv_fds(peer, 4096, 4)
            assert b"started" in answer
            try:
                while sent < 200000:
                    peer.sendall(b'{"signal":"HUP"}\n' * 100)
                    sent += 100
            except (BrokenPipeError, ConnectionResetError):
                pass
            for fd in fds:
                os.close(fd)
        return sent
    assert as_nobody(flood) < 200000
    assert there("set-list").out == lab.program("set-list").out
    cheap_guest.wait_for(lambda: not children_of(daemon), 20, "the job has ended")


# ---- in units of their own ----

class JobSocket:
    """virt-reimage-job.socket and its units: Accept=yes, and what is in a unit outlives who asked for it. before: called before each of them."""

    def __init__(self, path, before=None):
        self.path, self.units, self.full, self.before = path, [], False, before
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        os.chmod(path, 0o600)
        self.socket.listen(16)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            if self.full:  # MaxConnections=
                connection.close()
                continue
            if self.before:
                self.before()
            self.units.append(subprocess.Popen([JOB_UNIT, "--program", BINARY], stdin=connection, stdout=subprocess.DEVNULL,
                                               env={**os.environ, "LANG": "xx", "SUDO_USER": "xx"}, start_new_session=True, cwd="/"))
            connection.close()

    def unit_of(self, word):
        """The unit whose job is a command that has this word. The daemon has units for itself, too."""
        for unit in list(self.units):
            try:
                for pid in children(unit.pid):
                    with open(f"/proc/{pid}/cmdline", "rb") as words:
                        if word.encode() in words.read().split(b"\0"):
                            return unit
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has ended
        return None

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()
        for unit in self.units:
            unit.wait(60)


@pytest.fixture(name="units")
def fixture_units(daemon):
    """The daemon starts its jobs by a socket from here on."""
    daemon.stop()
    made = JobSocket(daemon.path("job.sock"))
    daemon.start()
    yield made
    made.close()


def test_in_units_it_is_the_same(lab, there, daemon, units):
    """K5: the reading commands, standard input, a directory, and a job that dies of a signal."""
    for words in readings(lab)[:20:3]:
        both(lab, there, daemon, *words)
    image = lab.program.image("62.0.0", name="sixty-two.qcow2")
    there("image-publish", IMAGE, "62.0.0", "sixty-two.qcow2", cwd=os.path.dirname(image))
    there("image-delete", IMAGE, "62.0.0")
    test_what_is_no_run_dies_of_the_signal_that_was_sent(lab, there)
    assert len(units.units) > 8
    cheap_guest.wait_for(lambda: all(unit.poll() == 0 for unit in units.units), 20, "all units are gone")


def test_a_unit_that_is_killed_says_nothing(there, units):
    """Who asked hears that nobody knows, and does not wait."""
    with subprocess.Popen(there.command("set-define", "-"), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=there.environment) as process:
        cheap_guest.wait_for(lambda: units.unit_of("set-define"), 10, "the job has begun")
        units.unit_of("set-define").kill()
        assert process.wait(20) == FAILED
        process.stdin.close()
        assert "the unit of the job ended" in process.stderr.read()


def check_that_none_begins(lab, there, daemon, nobody, reason):
    """Root does it alone, with a note; others are told why; over HTTP it is 503."""
    done = there("set-list")
    assert done.out == lab.program("set-list").out and reason in done.err and "it is done here" in done.err
    status, out, err = nobody.run("set-list")
    assert status == OWNED and not out and reason in err and "virt-reimage-job" in err
    answer = unix_http.request(daemon.path("virt-reimage.sock"), "GET", "/virtualMachineScaleSets")
    assert answer.status == 503 and answer.error[0] == "Disconnected" and "virt-reimage-job" in answer.error[1]


def test_nobody_listens_where_jobs_begin(lab, there, daemon, nobody):
    """K5: no job runs in the daemon's own unit, which is shut in too far, and what to type is said."""
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(daemon.path("job.sock"))
    check_that_none_begins(lab, there, daemon, nobody, "nobody listens at")


def test_a_unit_that_does_not_begin(lab, there, daemon, nobody, units):
    """K5: nothing was done then, and that is known."""
    cheap_guest.wait_for(lambda: units.units and all(unit.poll() is not None for unit in units.units), 30, "the daemon's own jobs have ended")
    units.full = True
    check_that_none_begins(lab, there, daemon, nobody, "did not begin")


def test_in_units_what_http_begins(lab, daemon, units, version):
    """K3, K5: the job of a route is in a unit, and so is the run that it leaves behind."""
    answer = unix_http.request(daemon.path("virt-reimage.sock"), "POST", f"/virtualMachineScaleSets/{lab.set_name}/osRollingUpgrade", {"version": version})
    assert answer.status == 202, answer.body
    pid = holder_of(lab)
    assert pid in [child for unit in units.units if unit.poll() is None for child in children(unit.pid)]
    assert wait_end(lab)["runningStatus"]["code"] == "Completed" and lab.versions() == lab.all_on(version)
    answer = unix_http.request(daemon.path("virt-reimage.sock"), "POST", f"/virtualMachineScaleSets/{lab.set_name}/osRollingUpgrade", {"version": "7.7.7"})
    assert answer.status == 404 and answer.error[0] == "NotFound", answer.body
    lab.program("rollback", lab.set_name, "--all")


def test_in_units_a_run_outlives_the_daemon(lab, there, daemon, units, version):
    """B17, G2: Ctrl-C reaches it; a daemon that is killed does not."""
    run = there.start("upgrade", lab.set_name, "--version", version)
    run.wait_line("swapping")
    run.send_signal(signal.SIGINT)
    status, _, err = finish(run)
    assert status == FAILED and "cancelled: 1 done" in err
    run = there.start("upgrade", lab.set_name, "--version", version)
    run.wait_line("swapping")
    daemon.kill()
    assert run.wait(10) == FAILED
    daemon.start()
    assert wait_end(lab)["runningStatus"]["code"] == "Completed"
    assert len(units.units) > 1 and lab.versions() == lab.all_on(version)
    lab.program("rollback", lab.set_name, "--all")


def test_in_units_a_detached_run_stays_in_its_unit(lab, there, daemon, units, version):
    """K5, B17: its unit lives for as long as it does, and SIGTERM of the unit reaches it: a host that goes down leaves it open."""
    there("upgrade", lab.set_name, "--version", version, "--detach")
    wait_for(lab, lambda status: status["progress"]["inProgressInstanceCount"] == 1)
    alive = [unit for unit in units.units if unit.poll() is None]
    assert len(alive) == 1
    with open(f"/proc/{holder_of(lab)}/stat", encoding="ascii") as stat:
        assert int(stat.read().rsplit(")", 1)[1].split()[1]) == alive[0].pid
    alive[0].send_signal(signal.SIGTERM)
    assert alive[0].wait(60) == 0
    shown = lab.status()
    assert shown["openRun"]["point"] == "interrupted" and shown["openSwapCount"] == 0
    assert daemon.stop() == 0
    daemon.start()
    assert wait_end(lab)["runId"] == shown["runId"] and lab.versions() == lab.all_on(version)
    lab.program("rollback", lab.set_name, "--all")


def test_words_for_a_unit_with_a_timer(lab, version):
    """K5: virt-reimage-job -- WORDS"""
    begin = [JOB_UNIT, "--program", BINARY, "--", "--root", lab.program.root]
    done = subprocess.run([*begin, "set-list"], capture_output=True, text=True, check=False, env=lab.program.environment)
    assert (done.returncode, done.stdout) == (DONE, lab.program("set-list").out)
    assert subprocess.run([*begin, "status", "nope"], capture_output=True, check=False).returncode == FAILED
    words = ["upgrade", lab.set_name, "--version", version]
    run = Running([*begin, *words], words)
    run.wait_line("swapping")
    run.send_signal(signal.SIGTERM)
    status, _, err = finish(run)
    assert status == FAILED and "stays open" in err
    assert lab.program.run("upgrade", lab.set_name).status == OWNED
    lab.program("cancel", lab.set_name)
    lab.program("rollback", lab.set_name, "--all")
