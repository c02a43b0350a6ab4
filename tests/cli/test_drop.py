# SPDX-License-Identifier: LGPL-2.1-or-later
"""The drop folder of virt-reimaged: H1, A9. What is put there with its digest is published, and nothing else is believed of it."""
import hashlib
import os
import shutil
import signal
import subprocess
import time

import pytest

from conftest import PREFIX
from lib import cheap_guest
from lib.application import Applications
from lib.daemon import Daemon
from program import BINARY, Program
from test_automatic import AutoLab
from test_daemon_commands import JobSocket

DAEMON = os.path.join(os.path.dirname(BINARY), "virt-reimaged")
TAKEN_S = 15  # to settle and to be published, on a busy host


class Drop:
    """A daemon with a drop folder over a store; images of guests are small."""

    def __init__(self, program, **options):
        self.program = program
        self.path = program.path("drop")
        os.makedirs(os.path.join(self.path, "cheap"), mode=0o775)
        os.chmod(self.path, 0o755)
        os.chmod(os.path.join(self.path, "cheap"), 0o755)
        self.daemon = Daemon(DAEMON, program.root, uri=program.uri, **options)
        self.daemon.configure(f"[drop]\ndirectory={self.path}\n")
        self.daemon.start()

    def at(self, *names):
        return os.path.join(self.path, "cheap", *names)

    def image(self, version):
        """The bytes of an image, as they are nowhere in the drop folder yet."""
        with open(self.program.image(version, name=f"source-{version}"), "rb") as file:
            return file.read()

    def write(self, name, content):
        with open(self.at(name), "wb") as file:
            file.write(content)

    def digest(self, name, content):
        self.write(f"{name}.sha256", f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode())

    def put(self, version, content=None):
        """The image first, its digest then. Returns the file's name."""
        content = self.image(version) if content is None else content
        name = f"{version}.qcow2"
        self.write(name, content)
        self.digest(name, content)
        return name

    def versions(self):
        if not os.path.exists(self.program.root):
            return []
        return [one["version"] for one in self.program.json("image-list")["images"]]

    def published(self, name):
        cheap_guest.wait_for(lambda: os.path.exists(self.at("published", f"{name}.sha256")), TAKEN_S, f"{name} is published")
        assert os.path.exists(self.at("published", name)) and not os.path.exists(self.at(name))
        assert os.listdir(self.at(".taken")) == []

    def refused(self, name):
        """Returns why."""
        cheap_guest.wait_for(lambda: os.path.exists(self.at("refused", f"{name}.error")), TAKEN_S, f"{name} is refused")
        assert os.path.exists(self.at("refused", name)) and not os.path.exists(self.at(name))
        with open(self.at("refused", f"{name}.error"), encoding="utf-8") as file:
            return file.read()

    def warned(self, text):
        cheap_guest.wait_for(lambda: text in self.daemon.said(), TAKEN_S, f"it says '{text}'")

    def nothing_more(self):
        """What follows is taken, so it has looked at all that was there."""
        self.published(self.put(f"9.0.{time.monotonic_ns() % 10**8}"))

    def own_jobs(self):
        return [line for line in self.daemon.own_jobs() if line.startswith("image-publish")]


@pytest.fixture(name="drop")
def fixture_drop(program):
    made = Drop(program)
    yield made
    made.daemon.clean_up()


def test_publishes_and_upgrades(program):
    """H1: from the drop folder to the guests, by nobody's hand."""
    with Applications(1) as applications, cheap_guest.Fleet(1, f"{PREFIX}-drop", version="1.0.0") as fleet:
        fleet.start_all()
        lab = AutoLab(fleet, applications)
        lab.program("upgrade", lab.set_name)
        drop = Drop(lab.program)
        try:
            drop.published(drop.put("4.0.0"))
            cheap_guest.wait_for(lambda: lab.status()["currentVersion"] == "4.0.0", 60, "the set has come to it")
            assert lab.versions() == lab.all_on("4.0.0")
        finally:
            drop.daemon.clean_up()


def test_file_first_and_digest_first(drop):
    """Either way it is whole when both are."""
    content = drop.image("1.0.0")
    drop.write("1.0.0.qcow2", content)
    time.sleep(4)
    assert drop.own_jobs() == [] and os.path.exists(drop.at("1.0.0.qcow2"))
    drop.digest("1.0.0.qcow2", content)
    drop.published("1.0.0.qcow2")
    content = drop.image("2.0.0")
    drop.digest("2.0.0.qcow2", content)
    time.sleep(1)
    drop.write("2.0.0.qcow2", content)
    drop.published("2.0.0.qcow2")
    assert drop.versions() == ["2.0.0", "1.0.0"]


def test_half_written(drop):
    """A file that somebody writes to is left alone, however long it takes; and one that is renamed to its name is taken."""
    content = drop.image("1.0.0")
    drop.digest("1.0.0.qcow2", content)
    with open(drop.at("1.0.0.qcow2"), "wb") as file:
        file.write(content[:1000])
        file.flush()
        time.sleep(5)
        assert drop.own_jobs() == []
        file.write(content[1000:])
    drop.published("1.0.0.qcow2")
    content = drop.image("2.0.0")
    drop.write(".2.0.0.qcow2.Xa3", content)
    drop.digest("2.0.0.qcow2", content)
    os.rename(drop.at(".2.0.0.qcow2.Xa3"), drop.at("2.0.0.qcow2"))
    drop.published("2.0.0.qcow2")


def test_cut_short(drop):
    """A9: what was left of an upload that died is refused by its digest, and its next try is published."""
    content = drop.image("1.0.0")
    drop.digest("1.0.0.qcow2", content)
    drop.write("1.0.0.qcow2", content[:-512])
    assert "1.0.0.qcow2" in drop.refused("1.0.0.qcow2") and drop.versions() == []
    drop.published(drop.put("1.0.0", content))
    assert drop.versions() == ["1.0.0"]


def test_wrong_digests(drop):
    """A9: of another file, of no file, none at all, and more than a line."""
    content = drop.image("1.0.0")
    for text in (b"", f"{hashlib.sha256(b'').hexdigest()}  1.0.0.qcow2\n".encode(),
                 f"{hashlib.sha256(content).hexdigest()}  other.qcow2\n".encode()):
        drop.write("1.0.0.qcow2", content)
        drop.write("1.0.0.qcow2.sha256", text)
        drop.refused("1.0.0.qcow2")
        os.remove(drop.at("refused", "1.0.0.qcow2.error"))
    drop.write("1.0.0.qcow2", content)
    drop.write("1.0.0.qcow2.sha256", b"x" * 100000)
    drop.warned("is longer than the line of a digest")
    cheap_guest.wait_for(lambda: os.path.exists(drop.at("1.0.0.qcow2.error")), TAKEN_S, "it says so beside the file")
    assert drop.versions() == []


def test_links_and_fifos(drop):
    """No link is followed, whatever it leads to, and a FIFO holds up nothing."""
    content = drop.image("1.0.0")
    secret = drop.program.write("secret", "not for everybody")
    drop.write("elsewhere", content)
    os.symlink(drop.at("elsewhere"), drop.at("1.0.0.qcow2"))
    drop.digest("1.0.0.qcow2", content)
    os.mkfifo(drop.at("2.0.0.qcow2"))
    drop.digest("2.0.0.qcow2", content)
    os.link(secret, drop.at("3.0.0.raw"))
    drop.digest("3.0.0.raw", b"not for everybody")
    os.mkdir(drop.at("4.0.0.qcow2"))
    drop.digest("4.0.0.qcow2", content)
    drop.write("5.0.0.qcow2", content)
    os.symlink("1.0.0.qcow2.sha256", drop.at("5.0.0.qcow2.sha256"))
    drop.warned("1.0.0.qcow2 is no regular file")
    drop.warned("2.0.0.qcow2 is no regular file")
    drop.warned("3.0.0.raw has a second name")
    drop.warned("4.0.0.qcow2 is no regular file")
    drop.warned("5.0.0.qcow2.sha256 is no regular file")
    drop.nothing_more()
    assert len(drop.own_jobs()) == 1 and len(drop.versions()) == 1


def test_whose_files(drop):
    """Those of root and of the group of the drop folder, and not what everybody may write to."""
    drop.put("1.0.0")
    os.chmod(drop.at("1.0.0.qcow2"), 0o666)
    drop.put("2.0.0")
    os.chown(drop.at("2.0.0.qcow2"), 65534, 65534)
    drop.warned("1.0.0.qcow2 may be written to by everybody")
    drop.warned("2.0.0.qcow2 is neither root's nor of the group")
    os.chown(drop.at("2.0.0.qcow2"), 65534, os.stat(drop.path).st_gid)
    drop.published("2.0.0.qcow2")
    os.chmod(drop.at("1.0.0.qcow2"), 0o644)
    drop.published("1.0.0.qcow2")


def test_names(drop):
    """Only VERSION.EXT of an image's directory; nothing leads out, and what is unknown stays."""
    content = drop.image("1.0.0")
    names = ["latest.qcow2", "1.0.0.iso", "1.0.0", "01.0.0.qcow2", "1.0.0.0.0.qcow2", "-1.qcow2", "1.0.0.qcow2.sh", "1..0.qcow2", " 1.0.0.qcow2"]
    for name in names:
        drop.write(name, content)
        drop.digest(name, content)
    for image in ("-rf", "a b", "é"):
        os.mkdir(os.path.join(drop.path, image))
        shutil.copy(drop.at("1.0.0.iso"), os.path.join(drop.path, image, "1.0.0.qcow2"))
        shutil.copy(drop.at("1.0.0.iso.sha256"), os.path.join(drop.path, image, "1.0.0.qcow2.sha256"))
    os.symlink(drop.at(), os.path.join(drop.path, "linked"))
    drop.nothing_more()
    assert len(drop.own_jobs()) == 1 and all(os.path.exists(drop.at(name)) for name in names)


def test_places_that_are_traps(drop):
    """A directory of ours that somebody else has made is not used."""
    os.mkdir(drop.at(".taken"))
    os.chmod(drop.at(".taken"), 0o777)
    drop.put("1.0.0")
    drop.warned("is not the daemon's alone")
    os.rmdir(drop.at(".taken"))
    os.symlink(drop.program.work, drop.at(".taken"))
    time.sleep(3)
    assert drop.versions() == [] and drop.own_jobs() == []


def test_what_was_taken_is_what_is_published(drop):
    """A9: who may write to the folder puts no other file in the place of one that was looked at, not even before its job has opened it."""
    content, other = drop.image("1.0.0"), drop.image("1.0.1")

    def swap():
        if os.path.exists(drop.at(".taken", "1.0.0.qcow2")) and not os.path.exists(drop.at("away")):
            os.rename(drop.at(".taken"), drop.at("away"))
            os.mkdir(drop.at(".taken"), 0o700)
            drop.write(".taken/1.0.0.qcow2", other)
            drop.write(".taken/1.0.0.qcow2.sha256", f"{hashlib.sha256(other).hexdigest()}  1.0.0.qcow2\n".encode())

    drop.daemon.stop()
    units = JobSocket(drop.daemon.path("job.sock"), swap)
    try:
        drop.daemon.start()
        drop.put("1.0.0", content)
        drop.warned("1.0.0.qcow2 is published")
        assert os.path.exists(drop.at("away"))
        assert hashlib.sha256(content).hexdigest() in drop.program("image-info", "cheap", "1.0.0", "--json").out
    finally:
        drop.daemon.stop()
        units.close()


def test_a_folder_that_everybody_may_write_to(drop):
    """Nothing is taken from it, and it is said once."""
    os.chmod(drop.at(), 0o777)
    drop.put("1.0.0")
    drop.warned("everybody must not write to it")
    time.sleep(3)
    assert drop.own_jobs() == [] and drop.daemon.said().count("everybody must not write to it") == 1
    os.chmod(drop.at(), 0o755)
    drop.published("1.0.0.qcow2")


def test_the_same_version_twice(drop):
    """A10: the same bytes are no error, others are refused."""
    content = drop.image("1.0.0")
    drop.published(drop.put("1.0.0", content))
    os.remove(drop.at("published", "1.0.0.qcow2.sha256"))
    drop.published(drop.put("1.0.0", content))
    assert "1.0.0" in drop.refused(drop.put("1.0.0", drop.image("1.0.1")))
    assert drop.versions() == ["1.0.0"]


def test_compressed_and_raw(drop):
    """A13's nearest: what image-publish takes."""
    content = drop.image("1.0.0")
    packed = subprocess.run(["gzip", "-c"], input=content, capture_output=True, check=True).stdout
    drop.write("1.0.0.qcow2.gz", packed)
    drop.digest("1.0.0.qcow2.gz", packed)
    drop.published("1.0.0.qcow2.gz")
    with open(cheap_guest.write_os_disk(drop.program.path("raw"), "2.0.0", "raw"), "rb") as file:
        raw = file.read()
    drop.write("2.0.0.raw", raw)
    drop.digest("2.0.0.raw", raw)
    drop.published("2.0.0.raw")
    assert drop.versions() == ["2.0.0", "1.0.0"]


def test_what_is_no_image(drop):
    """The image check has the last word, and the dropper reads it."""
    why = drop.refused(drop.put("1.0.0", b"this is no qcow2" * 1000))
    assert "qcow2" in why and drop.versions() == []


def test_a_daemon_that_is_killed(drop):
    """What it had taken is published by the next one."""
    drop.daemon.kill()
    os.mkdir(drop.at(".taken"), 0o700)
    name = drop.put("1.0.0")
    for one in (name, f"{name}.sha256"):
        os.rename(drop.at(one), drop.at(".taken", one))
    drop.daemon.start()
    drop.published(name)
    assert drop.versions() == ["1.0.0"]


def test_full_disk(work):
    """No space is no fault of the image: it stays, with the reason beside it, and is published once there is room."""
    mount = os.path.join(work, "small")
    os.mkdir(mount)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", mount], check=True)
    drop = None
    try:
        os.chmod(mount, 0o711)
        program = Program(os.path.join(mount, "store"), work)
        program.publish("1.0.0")
        free = os.statvfs(mount)
        with open(os.path.join(mount, "ballast"), "wb") as file:
            file.write(bytes(free.f_bavail * free.f_frsize))
        drop = Drop(program)
        name = drop.put("2.0.0")
        cheap_guest.wait_for(lambda: os.path.exists(drop.at(f"{name}.error")), TAKEN_S, "it says why")
        assert os.path.exists(drop.at(name)) and os.listdir(drop.at(".taken")) == []
        os.remove(os.path.join(mount, "ballast"))
        drop.daemon.process.send_signal(signal.SIGHUP)
        drop.published(name)
        cheap_guest.wait_for(lambda: not os.path.exists(drop.at(f"{name}.error")), 10, "the reason is gone, too")
        assert drop.versions() == ["2.0.0", "1.0.0"]
    finally:
        if drop:
            drop.daemon.clean_up()
        subprocess.run(["umount", mount], check=True)


def test_many_at_once(drop):
    """One after the other; an idle daemon has no descriptors of them left."""
    before = len(os.listdir(f"/proc/{drop.daemon.process.pid}/fd"))
    names = [drop.put(f"1.0.{number}") for number in range(6)]
    for name in names:
        cheap_guest.wait_for(lambda name=name: os.path.exists(drop.at("published", f"{name}.sha256")), 60, f"{name} is published")
    assert len(drop.versions()) == 6
    cheap_guest.wait_for(lambda: len(os.listdir(f"/proc/{drop.daemon.process.pid}/fd")) <= before, 10, "nothing is left open")
