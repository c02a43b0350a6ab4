# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a guide as a person does: types what its ```console blocks show, and compares what comes with what they show.

A block has, line by line:

    # COMMAND      typed as root; `$ COMMAND` is the same, with sudo in it where it is needed
    > LINE         the command goes on (a here-document)
    ...            any number of lines, none too
    other lines    all that the command prints, standard error too, in this order; in them `...` is any text

All blocks of a guide are typed into one shell, in order. A command must end with 0, unless `# echo $?` is what is typed next: then that
says how it ended. What changes from run to run is taken for equal, here and there (CHANGING): ids of runs, UUIDs, digests, times, lengths of
time, sizes. So are runs of spaces, since columns are as wide as what is in them, and empty lines. A command that has the id of a run is typed
with the id that came where the guide shows that one.

The shell is on a host of its own: another libvirtd in its own namespaces, where the guide's guests have the names that the guide gives
them, and the store is where it is by default. It begins in a directory that has the image files.
"""
import os
import re
import select
import subprocess
import time

from lib import cheap_guest, libvirtd
from program import BINARY

STORE = "/var/lib/virt-reimage"
PROMPT = re.compile(r"[#$] (.*)")
ANY = "..."
LIMIT_S = 300  # that a command may take

RUN = r"\b\d{8}-\d{6}-[0-9a-f]{4}\b"
CHANGING = [(re.compile(pattern), name) for pattern, name in (
    (RUN, "<run>"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\bsha256:[0-9a-f]+", "<digest>"),
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?", "<time>"),
    (r"\b(\d+ h \d+ min|\d+ min \d+ s|\d+(\.\d+)? (ms|s|us))\b", "<length>"),
    (r"\b\d+(\.\d+)? ([KMGT]i)?B\b", "<size>"),
    (r"-{4,}", "<rule>"),
    (r"\s+", " "),
)]


def blocks(text):
    """The lines of each ```console block."""
    return [block.splitlines() for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def steps(text):
    """(command, lines shown), in order."""
    found = []
    for block in blocks(text):
        assert block and PROMPT.fullmatch(block[0]), f"a block begins with a command: {block}"
        for line in block:
            typed = PROMPT.fullmatch(line)
            if typed:
                found.append((typed[1], []))
            elif line.startswith("> ") and not found[-1][1]:
                found[-1] = (f"{found[-1][0]}\n{line[2:]}", [])
            else:
                found[-1][1].append(line)
    return found


def normal(line):
    for pattern, name in CHANGING:
        line = pattern.sub(name, line)
    return line.strip()


def same_line(shown, said):
    pattern = ".*".join(re.escape(part) for part in normal(shown).split(ANY))
    return re.fullmatch(pattern, normal(said)) is not None


def same(shown, said):
    """Are the lines that were said those that are shown?"""
    shown, said = [[line for line in lines if line.strip()] for lines in (shown, said)]
    fits = {0}  # how many lines may have been said up to here
    for line in shown:
        if line.strip() == ANY:
            fits = set(range(min(fits), len(said) + 1)) if fits else set()
        else:
            fits = {count + 1 for count in fits if count < len(said) and same_line(line, said[count])}
    return len(said) in fits


def runs_of(shown, said):
    """The ids of runs that the guide shows -> those that came in their place."""
    found = {}
    for line in shown:
        came = next((other for other in said if same_line(line, other)), "")
        found.update(zip(re.findall(RUN, line), re.findall(RUN, came)))
    return found


class Shell:
    """bash, which is typed to. env: more of its environment."""

    def __init__(self, command, **env):
        self.bash = subprocess.Popen([*command, "bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     env={**os.environ, **env})
        self.count = 0

    def type(self, command):
        """What it says, as lines, and how it ends."""
        self.count += 1
        mark = f"[typed {self.count}]"
        self.bash.stdin.write(f"{{ {command}\n}} </dev/null; status=$?; printf '\\n{mark} %d\\n' $status; (exit $status)\n".encode())
        self.bash.stdin.flush()
        said = self._read(re.compile(rb"\n" + re.escape(mark.encode()) + rb" (\d+)\n"), command)
        return said[0].decode().splitlines(), int(said[1])

    def _read(self, end, command):
        said, deadline = b"", time.monotonic() + LIMIT_S
        while not end.search(said):
            assert select.select([self.bash.stdout], [], [], max(0, deadline - time.monotonic()))[0], f"{command}: no end after {said}"
            more = os.read(self.bash.stdout.fileno(), 65536)
            assert more, f"{command}: the shell has ended after {said}"
            said += more
        return end.split(said)

    def close(self):
        self.bash.stdin.close()
        try:
            self.bash.wait(timeout=30)
        except subprocess.TimeoutExpired:  # what was typed last does not end: its guests go away with their libvirtd
            self.bash.kill()
            self.bash.wait()
        self.bash.stdout.close()


class Host:
    """A host with guests web-0 ... that run, each with a data disk, files of images, and no store; a context manager."""

    def __init__(self, guests, images):
        """images: file name -> (version that its guest prints, options of cheap_guest.write_os_disk)."""
        self.libvirtd = libvirtd.PrivateLibvirtd(network=True)
        self.count, self.images = guests, images
        self.fleet = self.shell = None

    def __enter__(self):
        self.libvirtd.__enter__()
        try:
            self._furnish()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _furnish(self):
        self.fleet = cheap_guest.Fleet(self.count, "web", version="of your own", uri=self.libvirtd.uri)
        self.fleet.__enter__()
        for guest in self.fleet:
            guest.domain.setAutostart(True)
        self.fleet.start_all()
        for name in ("store", "images", "bin"):
            os.mkdir(self.fleet.path(name), 0o711)
        for name, (version, options) in self.images.items():
            cheap_guest.write_os_disk(self.fleet.path(f"images/{name}"), version, "qcow2", **options)
        os.symlink(BINARY, self.fleet.path("bin/virt-reimage"))
        # The place alone: what is mounted there, nobody else sees. It stays: to remove it would unmount the store of a test beside this one.
        os.makedirs(STORE, exist_ok=True)
        subprocess.run(self.libvirtd.command("mount", "--bind", self.fleet.path("store"), STORE), check=True)
        self.shell = Shell(self.libvirtd.command(directory=self.fleet.path("images")), VIRT_REIMAGE_SOCKET_DIR="",
                           PATH=f"{self.fleet.path('bin')}:{os.environ['PATH']}", LC_ALL="C.UTF-8", TZ="UTC")
        self.shell.type('sudo() { "$@"; }')

    def __exit__(self, *exception):
        if self.shell:
            self.shell.close()
        if self.fleet:
            self.fleet.clean_up()
        self.libvirtd.end()
        self.libvirtd.__exit__()
        return False

    def follow(self, text, without=lambda command: False):
        """Types all that the guide shows, but for what `without` names; AssertionError says where it is not as it is shown."""
        todo = [step for step in steps(text) if not without(step[0])]
        assert todo, "the guide has no command"
        runs = {}
        for (command, shown), (following, _) in zip(todo, [*todo[1:], ("", [])]):
            assert runs.keys() >= set(re.findall(RUN, command)), f"{command}: no line before it shows that run"
            command = re.sub(RUN, lambda found, runs=runs: runs[found[0]], command)
            said, status = self.shell.type(command)
            where = f"{command}\n--- shown\n{chr(10).join(shown)}\n--- said\n{chr(10).join(said)}\n--- ended with {status}"
            assert "Sanitizer" not in where, where
            assert status == 0 or following == "echo $?", where
            assert same(shown, said), where
            runs = {**runs_of(shown, said), **runs}
