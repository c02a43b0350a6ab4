#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power loss (row B17): cuts the power at every flush of publications, swaps and a rollback, and between.

    tests/fault/power.py --program power_world [--fs ext4,xfs,btrfs] [--states N] [--seed S] [--jobs J]
    tests/fault/power.py --program power_world --replay DIR --state ID

A file system lies on a loop device on a FUSE export of qemu-storage-daemon, whose blklogwrites driver records each write
and each flush. power_world (C) works on it: engine, store and journal are the real ones, the hypervisor is scripted and has its
definition on the same file system. Then states of the disk are made from the record, as a volatile write cache may leave them:

    F        all writes up to the F-th flush and no other
    F+P      and the first P writes after it
    F~R      and a part of those after it, in pieces of 4 KiB, that the random number R draws

Each is mounted, so that the kernel replays its journal, and checked by power_world: what was promised before the F-th flush is there,
every visible version is whole, the configured disk exists, recovery ends, all invariants hold. Exit status 77: not possible here.
"""

import argparse
import ctypes
import dataclasses
import hashlib
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

SECTOR = 512
PIECE = 4096
FLUSH, DISCARD = 1, 4
ENTRY = struct.Struct("<QQQQ")  # sector, sectors, flags, length of a mark
MAGIC = 0x6A736677736872  # "rhswfsj"
NEEDED = ("qemu-storage-daemon", "losetup", "mount", "unshare")
MAKE_EXT4 = ["mkfs.ext4", "-q", "-F", "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0"]


@dataclasses.dataclass(frozen=True)
class FileSystem:
    mib: int
    make: list
    options: str = ""  # of mount; states that are tried side by side have one UUID
    side_by_side: bool = True


FILE_SYSTEMS = {
    "ext4": FileSystem(96, MAKE_EXT4),
    "xfs": FileSystem(320, ["mkfs.xfs", "-q", "-f"], ",nouuid"),
    "btrfs": FileSystem(160, ["mkfs.btrfs", "-q", "-f"], side_by_side=False),
}


class NotPossible(Exception):
    """The machine does not let us: the test is skipped."""


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, **options)


# ---- the record ----


@dataclasses.dataclass
class Write:
    offset: int
    data: bytes  # of a discard: zeros


def read_log(path):
    """Epochs: lists of writes, each ended by a flush but the last."""
    epochs = [[]]
    with open(path, "rb") as log:
        magic, version, count, sector = struct.unpack("<QQQI", log.read(28))
        if (magic, version, sector) != (MAGIC, 1, SECTOR):
            raise ValueError(f"{path} is no record of writes")
        at = SECTOR
        for _ in range(count):
            log.seek(at)
            first, sectors, flags, _ = ENTRY.unpack(log.read(ENTRY.size))
            at += SECTOR
            log.seek(at)
            data = bytes(sectors * SECTOR) if flags & DISCARD else log.read(sectors * SECTOR)
            at += 0 if flags & DISCARD else sectors * SECTOR
            if sectors:
                epochs[-1].append(Write(first * SECTOR, data))
            if flags & FLUSH:
                epochs.append([])
    return epochs


def pieces_of(writes):
    for write in writes:
        for at in range(0, len(write.data), PIECE):
            yield Write(write.offset + at, write.data[at : at + PIECE])


# ---- states ----


@dataclasses.dataclass(frozen=True, order=True)
class State:
    flush: int
    prefix: int = 0
    draw: int = -1

    @staticmethod
    def parse(text):
        if "~" in text:
            flush, draw = text.split("~")
            return State(int(flush), 0, int(draw))
        flush, _, prefix = text.partition("+")
        return State(int(flush), int(prefix or 0))

    def __str__(self):
        if self.draw >= 0:
            return f"{self.flush}~{self.draw}"
        return f"{self.flush}+{self.prefix}" if self.prefix else str(self.flush)

    def writes_after(self, epoch):
        """What of the writes behind the flush came onto the medium, in pieces."""
        if self.draw < 0:
            return list(pieces_of(epoch[: self.prefix]))
        drawn = random.Random(self.draw)
        share = drawn.choice((0.1, 0.5, 0.9))
        return [piece for piece in pieces_of(epoch) if drawn.random() < share]

    def key(self, epochs):
        """Equal for states that are the same bytes; all of an epoch is the next flush."""
        pieces = self.writes_after(epochs[self.flush])
        if pieces and len(pieces) == sum(1 for _ in pieces_of(epochs[self.flush])):
            return self.flush + 1, ()
        return self.flush, tuple((piece.offset, piece.data) for piece in pieces)


def plan(epochs, wanted, seed):
    """Every flush, or of too many an even part; then prefixes and parts in equal shares, drawn."""
    flushes = [State(number) for number in range(len(epochs))]
    if len(flushes) > wanted // 2:
        step = len(flushes) / (wanted // 2)
        flushes = [flushes[int(index * step)] for index in range(wanted // 2)]
    drawn, states = random.Random(seed), {state.key(epochs): state for state in flushes}
    inner = [number for number, epoch in enumerate(epochs) if sum(1 for _ in pieces_of(epoch)) > 1]
    for _ in range(wanted * 20):
        if len(states) >= wanted:
            break
        number = drawn.choice(inner)
        count = len(epochs[number])
        if count > 1 and drawn.random() < 0.5:
            state = State(number, drawn.randrange(1, count))
        else:
            state = State(number, 0, drawn.randrange(1 << 30))
        states.setdefault(state.key(epochs), state)
    return sorted(states.values())


class Disk:
    """A file that holds the state behind a flush and goes from one flush to a later one. The digest is that of its bytes' places
    and values, whatever way led to them."""

    def __init__(self, start, path, epochs):
        shutil.copyfile(start, path) if not shutil.which("cp") else run("cp", "--sparse=always", start, path)
        self.path, self.epochs, self.flush, self.blocks = path, epochs, 0, {}

    def go_to(self, flush):
        with open(self.path, "r+b") as disk:
            while self.flush < flush:
                self.apply(disk, self.epochs[self.flush], self.blocks)
                self.flush += 1

    @staticmethod
    def apply(disk, writes, blocks):
        for piece in pieces_of(writes):
            disk.seek(piece.offset)
            disk.write(piece.data)
            blocks[piece.offset] = hash(piece.data)

    def make(self, state, target):
        """The digest of the state."""
        self.go_to(state.flush)
        run("cp", "--sparse=always", self.path, target)
        blocks = dict(self.blocks)
        with open(target, "r+b") as disk:
            self.apply(disk, state.writes_after(self.epochs[state.flush]), blocks)
        return hashlib.sha256(repr(sorted(blocks.items())).encode()).hexdigest()


# ---- mounts; all of them in a mount namespace of our own, so that they go with us ----


def private_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000) != 0:  # CLONE_NEWNS
        raise NotPossible(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    try:
        run("mount", "--make-rprivate", "/")
    except subprocess.CalledProcessError as error:
        raise NotPossible(f"no mount namespace: {error.stderr.strip()}") from error


class Mount:
    """A loop device that goes when it is no longer mounted."""

    def __init__(self, image, place):
        self.image, self.place = image, place

    def __enter__(self):
        run("mount", "-t", self.place.kind, "-o", "loop" + FILE_SYSTEMS[self.place.kind].options, self.image, self.place.mount)

    def __exit__(self, *unused):
        run("umount", self.place.mount)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Recorder:
    """An export of `image` whose writes go into `log` too."""

    def __init__(self, image, log, export):
        self.command = ["qemu-storage-daemon"]
        self.export, self.log = export, log
        for words in (
            f"driver=file,node-name=disk,filename={image}",
            f"driver=file,node-name=log,filename={log}",
            "driver=blklogwrites,node-name=both,file=disk,log=log,log-sector-size=512",
        ):
            self.command += ["--blockdev", words]
        self.command += ["--export", f"type=fuse,id=export,node-name=both,mountpoint={export},writable=on"]

    def __enter__(self):
        size = pathlib.Path(self.command[2].rsplit("=", 1)[1]).stat().st_size
        self.log.touch()
        self.export.touch()
        self.daemon = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        deadline = time.monotonic() + 20
        while self.export.stat().st_size != size:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise NotPossible(f"no FUSE export: {self.daemon.stderr.read().strip()[-200:]}")
            time.sleep(0.02)
        return self

    def __exit__(self, *unused):
        self.daemon.terminate()
        self.daemon.wait(timeout=60)


# ---- one file system ----


class Place:
    """Names in the scratch directory. The mount point is the same while recording and checking: paths are in XML and journal."""

    def __init__(self, folder, kind):
        self.folder, self.kind = pathlib.Path(folder), kind
        for name in ("disk", "start", "log", "export", "promises", "state"):
            setattr(self, name, self.folder / name)
        self.mount = self.folder / "mount"
        self.top = self.mount / "world"
        self.run = self.folder / "run"


def make_start(place, program):
    with open(place.disk, "wb") as disk:
        disk.truncate(FILE_SYSTEMS[place.kind].mib << 20)
    run(*FILE_SYSTEMS[place.kind].make, place.disk)
    mount = Mount(place.disk, place)
    try:
        mount.__enter__()
    except subprocess.CalledProcessError as error:
        raise NotPossible(f"{place.kind} cannot be mounted: {error.stderr.strip()}") from error
    try:
        place.top.mkdir()
        run(program, "make", place.top)
    finally:
        mount.__exit__()
    run("cp", "--sparse=always", place.disk, place.start)


def record(place, program):
    place.mount.mkdir()
    place.run.mkdir()
    make_start(place, program)
    with Recorder(place.disk, place.log, place.export), Mount(place.export, place):
        with open(place.promises, "w") as promises:
            subprocess.run([program, "act", place.top, place.run, place.log], check=True, stdout=promises, timeout=600)
    place.disk.unlink()


def try_state(place, program, state, image):
    """None, or what is wrong."""
    shutil.rmtree(place.run)
    place.run.mkdir()
    try:
        mount = Mount(image, place)
        mount.__enter__()
    except subprocess.CalledProcessError as error:
        return f"it cannot be mounted: {error.stderr.strip()}"
    try:
        with open(place.promises) as promises:
            done = subprocess.run(
                [program, "check", place.top, place.run, str(state.flush)],
                stdin=promises, capture_output=True, text=True, timeout=120, check=False, errors="replace",
            )
        return None if done.returncode == 0 else f"exit {done.returncode}: {done.stderr.strip()[-1500:]}"
    except subprocess.TimeoutExpired:
        return "it hangs"
    finally:
        mount.__exit__()


def work(place, program, epochs, states, answers):
    """One of the processes that try states: (state, digest, what is wrong)."""
    private_namespace()
    own = Place(place.folder, place.kind)
    disk = Disk(place.start, place.folder / f"disk-{os.getpid()}", epochs)
    own.run = place.folder / f"run-{os.getpid()}"
    own.run.mkdir()
    for number, state in enumerate(states):
        # A file of its own for each: a loop device that is just going would be taken again for the same file, with what it has cached.
        scratch = place.folder / f"state-{os.getpid()}-{number}"
        digest = disk.make(state, scratch)
        answers.put((str(state), digest, try_state(own, program, state, scratch)))
        scratch.unlink()
    disk.path.unlink()
    shutil.rmtree(own.run)


def try_all(place, program, epochs, states, jobs):
    answers = multiprocessing.SimpleQueue()
    context = multiprocessing.get_context("fork")
    # A part of the states that lie together each: a disk goes only onward.
    share = (len(states) + jobs - 1) // jobs
    workers = [
        context.Process(target=work, args=(place, program, epochs, states[first : first + share], answers))
        for first in range(0, len(states), share)
    ]
    for worker in workers:
        worker.start()
    found = []
    while len(found) < len(states) and (not answers.empty() or any(worker.is_alive() for worker in workers)):
        if answers.empty():
            time.sleep(0.05)
        else:
            found.append(answers.get())
    for worker in workers:
        worker.join()
    return found


def report(kind, place, states, found, begin):
    wrong = [(state, why) for state, _, why in found if why]
    for state, why in wrong[:5]:
        print(f"{kind}: VIOLATION at state {state}; --replay {place.folder} --state {state} tries it again\n{why}")
    print(
        f"power loss, {kind}: {len(states)} states planned, {len(found)} tried, "
        f"{len({digest for _, digest, _ in found})} distinct, {len(wrong)} violations, {time.monotonic() - begin:.0f} s",
        flush=True,
    )
    return len(found) == len(states) and not wrong


def try_file_system(kind, options):
    begin = time.monotonic()
    place = Place(tempfile.mkdtemp(prefix=f"vr-power-{kind}-", dir=options.scratch), kind)
    jobs = options.jobs if FILE_SYSTEMS[kind].side_by_side else 1
    good = False
    try:
        record(place, options.program)
        epochs = read_log(place.log)
        states = plan(epochs, options.states, options.seed)
        good = report(kind, place, states, try_all(place, options.program, epochs, states, jobs), begin)
    except subprocess.CalledProcessError as error:
        print(f"{kind}: {error}\n{error.stderr}")
    finally:
        if good or not place.promises.exists():
            shutil.rmtree(place.folder)
    return good


def replay(options):
    kind = pathlib.Path(options.replay).name.split("-")[2]
    place, state = Place(options.replay, kind), State.parse(options.state)
    epochs = read_log(place.log)
    disk = Disk(place.start, place.folder / "disk-replay", epochs)
    disk.make(state, place.state)
    place.run.mkdir(exist_ok=True)
    why = try_state(place, options.program, state, place.state)
    print(f"state {state}: {why or 'no violation'}")
    return why is None


def arguments():
    full = os.environ.get("VR_FULL") == "1"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", type=pathlib.Path, required=True, help="power_world, as it was built")
    parser.add_argument("--fs", default="ext4,xfs,btrfs" if full else "ext4", help="file systems (default: %(default)s)")
    parser.add_argument("--states", type=int, default=560 if full else 40, help="states of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="draws the states between flushes (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that try states (default: %(default)s)")
    parser.add_argument("--scratch", default="/dev/shm", help="where records and disks lie (default: %(default)s)")
    parser.add_argument("--replay", metavar="DIR", help="a record that was kept because of a violation")
    parser.add_argument("--state", help="the state of it to try")
    options = parser.parse_args()
    options.program = options.program.resolve()
    return options


def check_possible(kinds):
    missing = [name for name in (*NEEDED, *(FILE_SYSTEMS[kind].make[0] for kind in kinds)) if not shutil.which(name)]
    if os.geteuid() != 0:
        raise NotPossible("it needs root")
    if missing:
        raise NotPossible(f"{', '.join(missing)} is not installed")
    if not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
        raise NotPossible("there is no /dev/fuse or no /dev/loop-control")


def main():
    options = arguments()
    try:
        kinds = options.fs.split(",")
        check_possible(kinds)
        private_namespace()
        if options.replay:
            return 0 if replay(options) else 1
        return 0 if all([try_file_system(kind, options) for kind in kinds]) else 1
    except NotPossible as error:
        print(f"skipped: {error}")
        return 77


if __name__ == "__main__":
    sys.exit(main())
