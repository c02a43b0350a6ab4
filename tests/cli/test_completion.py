# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5: completion, by real bash and bash-completion on a terminal, and by the program alone."""
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from lib import cheap_guest
from program import BINARY, IMAGE, NO_LIBVIRT, TOP, USAGE, Program
from test_help import ALL
from test_metrics import fill

COMPLETION = os.path.join(TOP, "packaging/completion/virt-reimage")
LIBRARY = "/usr/share/bash-completion/bash_completion"
LIMIT_S = 2  # that nobody waits longer than, whatever hangs
SLACK_S = 1  # of a busy machine


class Shell:
    """An interactive bash: what is typed goes through readline, with its word breaks and its quotes."""

    def __init__(self, work, program=BINARY):
        os.makedirs(os.path.join(work, "bin"))
        self.name = os.path.join(work, "bin/virt-reimage")
        os.symlink(program, self.name)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(work)
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"],
                      {"PATH": f"{work}/bin:{os.environ['PATH']}", "TERM": "dumb", "HOME": work, "PS1": "", "PS2": "", "LC_ALL": "C.UTF-8"})
        self.count = 0
        self.run(f"bind 'set enable-bracketed-paste off'; stty -echo cols 30000; . {LIBRARY}; . {COMPLETION}")

    def read_until(self, end, timeout=30):
        seen, deadline = b"", time.monotonic() + timeout
        while end not in seen:
            assert select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0], seen
            seen += os.read(self.fd, 65536)
        return seen.split(end)[0]

    def run(self, line):
        """Types a line; its output."""
        self.count += 1
        os.write(self.fd, f"{line}; printf '[%s]' end{self.count}\r".encode())
        return self.read_until(f"[end{self.count}]".encode())

    def complete(self, line):
        """The line with all completions in place of its last word, as its words (M-* of readline)."""
        self.count += 1
        os.write(self.fd, line.encode() + b"\x1b*\x01printf '{%s}' begin" + str(self.count).encode()
                 + b" \x05 end" + str(self.count).encode() + b"\r")
        seen = self.read_until(f"{{end{self.count}}}".encode()).decode()
        return re.findall(r"\{([^}]*)\}", seen.split(f"{{begin{self.count}}}")[-1])

    def close(self):
        os.close(self.fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture(name="shop", scope="module")
def fixture_shop(fleet):
    """Two runs of a set with three guests, and another set of none of them."""
    program = Program(fleet.path("store"), fleet.dir)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        program.publish(version)
    names = [guest.name for guest in fleet]
    program("set-define", "-", stdin=program.model("shop", names, upgrade_domains=2, labels={names[0]: "role: web"}))
    program("upgrade", "shop", "--version", "2.0.0")
    program("rollback", "shop", names[0])
    return program


@pytest.fixture(name="copied")
def fixture_copied(shop, program):
    shutil.copytree(shop.root, program.root)
    return program


@pytest.fixture(name="shell")
def fixture_shell(tmp_path):
    shell = Shell(str(tmp_path))
    yield shell
    shell.close()


def ask(*words, root=None, environment=None):
    """What the program itself says; it never fails, and never says anything else."""
    start = ["-r", root] if root else []
    begun = time.monotonic()
    done = subprocess.run([BINARY, "complete", *start, *words], capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert time.monotonic() - begun < LIMIT_S + SLACK_S
    return done.stdout.splitlines()


# --- by bash ----------------------------------------------------------------------------------------------


def test_commands_and_options(shell):
    assert shell.complete("virt-reimage image-i") == ["virt-reimage", "image-include", "image-info"]
    assert shell.complete("virt-reimage set-li") == ["virt-reimage", "set-list"]
    assert shell.complete("virt-reimage --json upgrade --no-a") == ["virt-reimage", "--json", "upgrade", "--no-auto-rollback"]
    assert shell.complete("virt-reimage image-check --format ") == ["virt-reimage", "image-check", "--format", "qcow2", "raw"]
    assert shell.complete(f"{shell.name} help doc") == [shell.name, "help", "doctor"]
    assert shell.complete("virt-reimage -c qemu:///sy") == ["virt-reimage", "-c", "qemu:///system"]


def test_names_in_the_store(shell, shop, fleet):
    start = f"virt-reimage -r {shop.root}"
    names = [guest.name for guest in fleet]

    def completed(rest):
        return shell.complete(f"{start} {rest}")[len(f"{start} {rest}".split(" ")) - 1:]

    assert completed("status s") == ["shop"]
    assert completed("reimage shop ") == names
    assert completed(f"reimage shop {names[1]} ") == [names[0], names[2]]
    assert completed("upgrade shop --version ") == ["1.0.0", "2.0.0", "3.0.0", "latest"]
    assert completed("upgrade shop --version=2") == ["--version=2.0.0"]
    assert completed("upgrade shop --role ") == ["web"]
    assert completed("image-info ch") == [IMAGE]
    assert completed(f"image-delete {IMAGE} 1") == ["1.0.0"]
    assert completed("walk shop ") == ["0", "1"]
    assert completed(f"rollback shop {names[0]} --to-generation ") == ["1"]
    assert completed("upgrade shop --ignore image-a") == ["image-architecture"]
    assert completed("recover shop --forg") == ["--forget"]
    assert completed("history shop --run ") == sorted(run["runId"] for run in shop.json("history", "shop")["runs"])


def test_files(shell, tmp_path):
    for name in ("one.qcow2", "with space.qcow2"):
        (tmp_path / name).write_text("")
    os.makedirs(tmp_path / "dir")
    assert shell.complete("virt-reimage image-check on") == ["virt-reimage", "image-check", "one.qcow2"]
    assert shell.complete("virt-reimage image-check wi") == ["virt-reimage", "image-check", "with space.qcow2"]
    assert shell.complete("virt-reimage -r di")[2] in ("dir", "dir/")
    assert shell.complete("virt-reimage image-publish a 1 f --digest-file=on")[-1] == "--digest-file=one.qcow2"


def test_a_name_is_quoted_and_never_run(shell, copied, tmp_path, fleet):
    """libvirt takes nearly any name for a domain."""
    name = "a b$(touch stolen)`touch stolen`;touch stolen'\"\\x"
    database = sqlite3.connect(os.path.join(copied.root, "state.db"))
    database.execute("UPDATE instances SET domain = ? WHERE domain = ?", (name, fleet[0].name))
    database.execute("UPDATE instances SET domain = ? WHERE domain = ?", ("two\nlines", fleet[1].name))
    database.commit()
    database.close()
    words = shell.complete(f"virt-reimage -r {copied.root} protect shop ")
    assert words[-2:] == [name, fleet[2].name]
    assert shell.complete(f"virt-reimage -r {copied.root} protect shop a\\ b")[-1] == name
    assert not (tmp_path / "stolen").exists()


def test_a_program_that_hangs_holds_nobody_up(tmp_path):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    shell = Shell(str(tmp_path), str(slow))
    try:
        begun = time.monotonic()
        assert shell.complete("virt-reimage status ")[:2] == ["virt-reimage", "status"]
        assert LIMIT_S - 0.5 < time.monotonic() - begun < LIMIT_S + SLACK_S
    finally:
        shell.close()


def test_a_program_that_is_not_there_says_nothing(tmp_path):
    shell = Shell(str(tmp_path), "/nonexistent/virt-reimage")
    try:
        assert shell.complete("virt-reimage status ") == ["virt-reimage", "status"]
        assert b"rror" not in shell.run("true")
    finally:
        shell.close()


# --- by the program ---------------------------------------------------------------------------------------


def test_all_commands():
    assert sorted(ask("")) == sorted([*ALL, "help"])
    assert sorted(ask("help", "")) == sorted(ALL)
    assert ask("no-such-command", "") == ask("help", "status", "") == []


@pytest.mark.parametrize("command", ALL)
def test_the_options_of_each_command_are_those_of_its_help(command):
    text = subprocess.run([BINARY, command, "--help"], capture_output=True, text=True, check=True).stdout
    told = set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE))
    globally = {"--connect", "--root", "--quiet", "--debug", "--help"}
    assert set(ask(command, "-")) == told | globally


def test_where_the_words_stand(shop, fleet):
    root = shop.root
    assert ask("status", "", root=root) == ["shop"]
    assert ask("status", "shop", "", root=root) == []
    assert ask("status", "--", "--", root=root) == []
    assert ask("recover", "shop", "", root=root) == ["shop"]  # any number of sets
    assert ask("-q", "--connect", "x", "status", "", root=root) == ["shop"]
    assert ask(f"--root={root}", "status", "") == ["shop"]
    assert ask("status", f"-r{root}", "") == ["shop"]
    assert ask("upgrade", "--canary", fleet[0].name, "--can", root=root) == ["--canary"]  # once more for each
    assert ask("upgrade", "--walk", "--wal", root=root) == []
    assert ask("upgrade", "--reason", "", root=root) == []
    assert ask("upgrade", "shop", "--canary", "", root=root) == [guest.name for guest in fleet]


def test_no_store_and_a_damaged_one(tmp_path):
    assert ask("status", "", root=str(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()
    (tmp_path / "state.db").write_bytes(b"no database at all" * 1000)
    assert ask("status", "", root=str(tmp_path)) == []
    assert ask("stat", root=str(tmp_path)) == ["status"]


def test_a_database_that_is_locked(copied):
    """... for good: the limit is the program's own."""
    database = sqlite3.connect(os.path.join(copied.root, "state.db"), isolation_level=None)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("BEGIN EXCLUSIVE")
    try:
        begun = time.monotonic()
        assert ask("status", "", root=copied.root) == []
        assert time.monotonic() - begun > 1  # it was locked
        assert ask("upgrade", "--wal", root=copied.root) == ["--walk"]
    finally:
        database.close()
    database = sqlite3.connect(os.path.join(copied.root, "state.db"), isolation_level=None)
    database.execute("BEGIN IMMEDIATE")  # as a run that writes
    try:
        assert ask("status", "", root=copied.root) == ["shop"]
    finally:
        database.close()


def test_libvirt_is_not_asked(shop):
    environment = {**os.environ, "LIBVIRT_DEFAULT_URI": NO_LIBVIRT}
    assert ask("status", "", root=shop.root, environment=environment) == ["shop"]
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # which cannot be under strace
    trace = subprocess.run(["strace", "-f", "-e", "trace=connect", BINARY, "complete", "-r", shop.root, "reimage", "shop", ""],
                           capture_output=True, text=True, check=True, env=environment)
    assert "libvirt" not in trace.stderr


def test_nothing_is_written(copied):
    before = copied.snapshot()
    for words in (["status", ""], ["reimage", "shop", ""], ["upgrade", "shop", "--version", ""], ["history", "shop", "--run", ""]):
        assert ask(*words, root=copied.root)
    assert copied.snapshot() == before


def test_a_thousand_instances(copied):
    fill(copied, 1000, 0)
    begun = time.monotonic()
    assert len(ask("reimage", "shop", "many-", root=copied.root)) == 1000
    assert time.monotonic() - begun < LIMIT_S  # 0.1 s and less where the machine is idle


# --- by a daemon ------------------------------------------------------------------------------------------


@pytest.fixture(name="daemon")
def fixture_daemon(shop, work):
    """One over that store; its own directory of sockets, and a copy of the program that everybody may run."""
    sockets = os.path.join(work, "sockets")
    os.mkdir(sockets)
    os.chmod(sockets, 0o755)
    shutil.copy(BINARY, os.path.join(work, "virt-reimage"))
    process = subprocess.Popen([f"{BINARY}d", "--root", shop.root, "--socket-dir", sockets], stderr=subprocess.PIPE, text=True)
    try:
        cheap_guest.wait_for(lambda: os.path.exists(os.path.join(sockets, "virt-reimage-ro.sock")), 30, "the daemon serves")
        yield process, sockets, os.path.join(work, "virt-reimage")
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.communicate(timeout=60)


def as_nobody(daemon, *words):
    _, sockets, program = daemon
    begun = time.monotonic()
    done = subprocess.run([program, "complete", *words], capture_output=True, text=True, check=False, user=65534, group=65534,
                          extra_groups=[], env={"VIRT_REIMAGE_SOCKET_DIR": sockets, "PATH": os.environ["PATH"], "HOME": "/nonexistent",
                                                "LIBVIRT_DEFAULT_URI": "qemu:///system"})
    assert time.monotonic() - begun < LIMIT_S + SLACK_S
    return done.stdout.splitlines()


def test_everybody_by_the_socket_for_reading(daemon, shop, fleet):
    assert as_nobody(daemon, "-r", shop.root, "status", "") == ["shop"]
    assert as_nobody(daemon, f"--root={shop.root}", "reimage", "shop", "") == [guest.name for guest in fleet]


@pytest.mark.parametrize("option", ["-r{}", "--root={}", "-r|{}", "--root|{}", "-c|qemu:///session"])
def test_a_job_reads_no_other_store_than_the_daemons(shop, copied, option):
    """One that anybody on the host may ask for, and who speaks to the socket need not be this program."""
    environment = {**os.environ, "VIRT_REIMAGE_JOB": "ro", "VIRT_REIMAGE_JOB_ROOT": shop.root, "LIBVIRT_DEFAULT_URI": "qemu:///system"}

    def job(*words):
        return subprocess.run([BINARY, "complete", *words], capture_output=True, text=True, check=False, env=environment)

    assert job("status", "").stdout == "shop\n"
    refused = job(*option.format(copied.root).split("|"), "status", "")
    assert (refused.returncode, refused.stdout) == (USAGE, "")


def test_a_daemon_that_hangs(daemon, shop):
    process, sockets, _ = daemon
    process.send_signal(signal.SIGSTOP)
    assert as_nobody(daemon, "-r", shop.root, "status", "") == []
    environment = {**os.environ, "VIRT_REIMAGE_SOCKET_DIR": sockets}
    assert ask("status", "", root=shop.root, environment=environment) == ["shop"]  # root reads the store itself
