# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs virt-reimage and looks at what it left."""
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time

from lib import cheap_guest, schemas, unix_http

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("VIRT_REIMAGE", os.path.join(TOP, "build/dev/virt-reimage"))
NO_LIBVIRT = "qemu:///system?socket=/nonexistent"
IMAGE = "cheap"
LATEST = 180  # seconds; so long nothing takes

# What the exit statuses mean (DESIGN, command line).
DONE, FAILED, USAGE, POLICY, REFUSED, OWNED, PARTIAL, PERSON = range(8)


def without_place(err):
    """Commands to type without the libvirt and the store of these tests, which they all name (test_errors.py looks at those)."""
    return re.sub(r"(?<='virt-reimage)( --(connect|root) ('[^']*'|[^ ']+))+(?= [a-z])", "", err)


def error_parts(err):
    """The one error of a command: {"error": what was being done, "now": ..., "next": ..., "cause": ...} of what it says; with --json its object."""
    err = without_place(err)
    documents = [json.loads(line)["error"] for line in err.splitlines() if line.startswith('{"error":')]
    begins = [number for number, line in enumerate(err.splitlines()) if line.startswith("error: ")]
    assert len(documents) + len(begins) == 1, err
    if documents:
        return documents[0]
    parts = {}
    for line in err.splitlines()[begins[0]:]:
        found = re.fullmatch(r"(error|  now|  next|  cause): +(.+)", line)
        if not found or found[1].strip() in parts:
            break
        parts[found[1].strip()] = found[2]
    return parts


def error_line(err):
    """The parts in one line, as the history has them."""
    parts = error_parts(err)
    if "message" in parts:
        return f"error: {parts['message']}"
    tail = "".join(f"; {parts[key]}" for key in ("now", "next") if key in parts)
    return "error: " + parts["error"] + (f": {parts['cause']}" if "cause" in parts else "") + tail


class Result:
    def __init__(self, status, out, err, words=()):
        """words: that were given, to know what the output must be like (K4)."""
        self.status, self.out, self.err, self.raw_err = status, out, without_place(err), err
        schemas.check_output(words, out)
        schemas.check_error(err)

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def lines(self):
        """Of a stream of JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def error(self):
        """What went wrong, in one line."""
        return error_line(self.err)


class Lines:
    """Standard output of a program that runs. No byte is read before it is asked for, so that communicate() has all that comes behind the last line."""

    def __init__(self, file, words):
        self.file, self.words = file, words

    def readline(self):
        line = bytearray()
        while not line.endswith(b"\n") and (byte := os.read(self.file.fileno(), 1)):
            line += byte
        text = line.decode()
        schemas.check_line(self.words, text)
        return text

    def __iter__(self):
        return iter(self.readline, "")

    def read(self):
        return "".join(self)

    def __getattr__(self, name):
        return getattr(self.file, name)


class Running(subprocess.Popen):
    """A command that runs, whose JSON is held against its schema however a test reads it (K4)."""

    def __init__(self, command, words, **options):
        super().__init__(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        self.words, self.stdout = words, Lines(self.stdout, words)

    def communicate(self, *arguments, **options):
        out, err = super().communicate(*arguments, **options)
        for line in out.splitlines(keepends=True):
            schemas.check_line(self.words, line)
        schemas.check_error(err)
        return out, err

    def wait_line(self, *words):
        """What it says up to a line that has all these words. One that never says them is killed, so that a test fails and does not hang."""
        lines = []
        guard = threading.Timer(LATEST, self.kill)
        guard.start()
        try:
            for line in self.stdout:
                lines.append(line)
                if all(word in line for word in words):
                    return "".join(lines)
        finally:
            guard.cancel()
        raise AssertionError(f"no line with {words}: {''.join(lines)}{self.stderr.read()}")


class Program:
    """socket_dir: of the daemon that it asks; empty: of none, so that one of this host does not answer for it."""

    def __init__(self, root, work, uri=None, socket_dir=""):
        self.root, self.work, self.uri, self.socket_dir = root, work, uri, socket_dir

    @property
    def environment(self):
        return {**os.environ, "VIRT_REIMAGE_SOCKET_DIR": self.socket_dir}

    def command(self, *arguments):
        connect = ["--connect", self.uri] if self.uri else []
        return [BINARY, "--root", self.root, *connect, *arguments]

    def run(self, *arguments, stdin="", timeout=120, **options):
        done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=timeout,
                              check=False, env=self.environment, **options)
        return Result(done.returncode, done.stdout, done.stderr, arguments)

    def __call__(self, *arguments, status=DONE, **options):
        result = self.run(*arguments, **options)
        assert result.status == status, (arguments, result.status, result.out, result.err)
        assert "Sanitizer" not in result.err, result.err
        return result

    def json(self, *arguments, **options):
        return self("--json", *arguments, **options).json

    def start(self, *arguments):
        """For tests that send signals."""
        return Running(self.command(*arguments), arguments, env=self.environment)

    def control(self, set_name, method, what):
        """(status, document) of the process of the set's run, of which `what` is asked (docs/control.md)."""
        answer = unix_http.request(f"{self.root}/run/{set_name}/control", method, f"/virtualMachineScaleSets/{set_name}/rollingUpgrades/{what}")
        document = json.loads(answer.body)
        schemas.check(document, "control")
        return answer.status, document

    def fails(self, status, *arguments, **options):
        """Fails with that status and one error line, and changes nothing; returns the line."""
        before = self.snapshot()
        line = self(*arguments, status=status, **options).error()
        assert self.snapshot() == before
        return line

    def path(self, name):
        return os.path.join(self.work, name)

    def image(self, version, name=None, **options):
        return cheap_guest.write_os_disk(self.path(name or f"{version}.qcow2"), version, "qcow2", **options)

    def publish(self, version, **options):
        return self("image-publish", IMAGE, version, self.image(version, **options))

    def model(self, name, instances, image="{name: cheap, version: latest}", batch=100, upgrade_domains=1, unhealthy=100, health="",
              stop="timeout: PT20S, force: true", kind="overlay", more="", pins=None, labels=None, policy=""):
        """labels: more keys of an instance, by its name; policy: more lines of upgradePolicy, indented."""
        keys = {name: f", {keys}" for name, keys in (labels or {}).items()}
        for instance, pin in (pins or {}).items():
            keys[instance] = keys.get(instance, "") + f", version: {pin}"
        lines = "".join(f"- {{domain: {instance}{keys.get(instance, '')}}}\n" for instance in instances)
        return (f"name: {name}\n"
                f"imageReference: {image}\n"
                f"upgradeDomainCount: {upgrade_domains}\n"
                "upgradePolicy:\n"
                "  rollingUpgradePolicy:\n"
                f"    maxBatchInstancePercent: {batch}\n"
                f"    maxUnhealthyInstancePercent: {unhealthy}\n"
                "    maxUnhealthyUpgradedInstancePercent: 20\n"
                f"{policy}"
                f"healthProfile: {{{health}healthTimeout: PT20S}}\n"
                f"osDisk: {{kind: {kind}, target: vda}}\n"
                f"stop: {{method: acpi, {stop}}}\n"
                f"{more}"
                f"instances:\n{lines}")

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def snapshot(self):
        """Every file of the store with its mode and content, and every row of its database; {} when there is none.

        Locks, fencing numbers, the sockets of runs and notices of requests are left out: to ask for a set is not to change it."""
        seen = {}
        for folder, folders, files in os.walk(self.root):
            folders[:] = [one for one in folders if one not in ("locks", "run")]
            for name in folders:
                seen[os.path.join(folder, name)] = oct(os.lstat(os.path.join(folder, name)).st_mode)
            for name in files:
                path = os.path.join(folder, name)
                seen[path] = "" if name.startswith("state.db") else content_of(path)
        for path in [path for path in seen if path.endswith("state.db")]:
            seen[path] = rows_of(path)
        return seen


def content_of(path):
    with open(path, "rb") as file:
        return oct(os.fstat(file.fileno()).st_mode), hashlib.sha256(file.read()).hexdigest()


def rows_of(path):
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [line for line in database.iterdump() if not line.startswith(('INSERT INTO "owners"', 'INSERT INTO "notice'))]
    finally:
        database.close()


def crashing_image(program, version):
    """Its guest powers itself off at the first tick of its clock, long before it counts as healthy."""
    return program.image(version, name=f"{version}.raw.qcow2", ends=True)


def wait_for(lab, condition, seconds=60):
    """The status of the lab's set, when it is as the condition wants it."""
    deadline = time.monotonic() + seconds
    while True:
        begin = time.monotonic()
        status = lab.status()
        if condition(status):
            return status
        now = time.monotonic()
        assert now < deadline, json.dumps(status, indent=1)
        time.sleep(max(0.1, cheap_guest.rest_after(now - begin)))


def is_writing(program):
    database = sqlite3.connect(f"{program.root}/state.db", timeout=0.1, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        database.execute("ROLLBACK")
        return False
    except sqlite3.OperationalError:
        return True
    finally:
        database.close()


def wait_stopped(program, run):
    """Stopped, and not in the middle of a write: then it would keep everybody out of state.db (tests/base/test_db.c)."""
    def stopped():
        with open(f"/proc/{run.pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "T"

    def stopped_at_rest():
        run.send_signal(signal.SIGSTOP)
        cheap_guest.wait_for(stopped, 10, "the run is stopped")
        if not is_writing(program):
            return True
        run.send_signal(signal.SIGCONT)
        return False
    cheap_guest.wait_for(stopped_at_rest, 10, "the run is stopped and writes nothing")


def events(program, kind):
    database = sqlite3.connect(f"file:{program.root}/state.db?mode=ro", uri=True)
    try:
        return [text for (text,) in database.execute("SELECT text FROM events WHERE kind = ? ORDER BY seq", (kind,))]
    finally:
        database.close()
