# SPDX-License-Identifier: LGPL-2.1-or-later
"""A1, A2, A5, A7, A9, A10, A11, A12: signed, compressed and piped images; who uses a version, what may go, what is damaged."""
import gzip
import hashlib
import lzma
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import libvirt
import pytest

from conftest import Lab
from lib import cheap_guest
from program import DONE, FAILED, IMAGE, NO_LIBVIRT, REFUSED, USAGE


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)
    return path


def pack(path, suffix):
    tool = {".xz": "xz", ".gz": "gzip", ".zst": "zstd"}[suffix]
    with open(path + suffix, "wb") as out:
        subprocess.run([tool, "-c", path], stdout=out, check=True)
    return path + suffix


def state_of(program, version):
    return next(one for one in program.json("image-list", IMAGE)["images"] if one["version"] == version)


def piped(program, path, *arguments, status=DONE):
    with open(path, "rb") as source:
        cat = subprocess.Popen(["cat"], stdin=source, stdout=subprocess.PIPE)
        done = subprocess.run(program.command("image-publish", IMAGE, *arguments), stdin=cat.stdout, capture_output=True,
                              text=True, timeout=60, check=False)
        cat.stdout.close()
        cat.wait()
    assert done.returncode == status, done.stderr
    return done


# --- digest files and signatures -----------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["{hex}  {name}\n", "{hex} *{name}\n", "SHA256 ({name}) = {hex}\n"])
def test_a_digest_file(published, line):
    path = published.image("4.0.0")
    name = os.path.basename(path)
    sums = published.write("SHA256SUMS", "0" * 64 + "  other.qcow2\n" + line.format(hex=digest(path), name=name))
    published("image-publish", IMAGE, "4.0.0", path, "--digest-file", sums)
    other = published.image("5.0.0")
    assert "no SHA-256 digest" in published.fails(REFUSED, "image-publish", IMAGE, "5.0.0", other, "--digest", "@" + sums)
    wrong = published.write("WRONG", line.format(hex="0" * 64, name=os.path.basename(other)))
    assert "another digest" in published.fails(REFUSED, "image-publish", IMAGE, "5.0.0", other, "--digest-file", wrong)
    two = published.write("TWO", line.format(hex="0" * 64, name=name) + line.format(hex="1" * 64, name=name))
    assert "two different" in published.fails(REFUSED, "image-publish", IMAGE, "5.0.0", path, "--digest-file", two)
    published.fails(USAGE, "image-publish", IMAGE, "5.0.0", other, "--digest-file", sums, "--digest", "sha256:" + "0" * 64)
    published.fails(FAILED, "image-publish", IMAGE, "5.0.0", other, "--digest-file", "/nonexistent/SUMS")


def test_a_clearsigned_digest_file_is_not_read(published):
    path = published.image("4.0.0")
    sums = published.write("SUMS.asc", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n"
                           f"{digest(path)}  {os.path.basename(path)}\n-----BEGIN PGP SIGNATURE-----\n")
    line = published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", path, "--digest-file", sums)
    assert "PGP" in line and "gpg --verify" in line


class Signer:
    """minisign with a key of its own, whose public half lies in a directory of keys."""

    def __init__(self, program):
        self.keys = program.path("keys.d")
        self.secret = program.path("secret.key")
        os.mkdir(self.keys, 0o755)
        self.run("-G", "-f", "-p", os.path.join(self.keys, "admin.pub"))

    def run(self, *arguments):
        subprocess.run(["minisign", "-W", "-s", self.secret, *arguments], check=True, capture_output=True, text=True)

    def sign(self, path, *more):
        self.run("-S", "-m", path, "-t", "built today", *more)
        return path + ".minisig"


@pytest.fixture(name="signer")
def fixture_signer(published):
    if not shutil.which("minisign"):
        pytest.skip("minisign is not installed")
    return Signer(published)


def signed(signer, signature):
    return ["--signature", signature, "--keys", signer.keys]


def test_a_signature_is_verified_and_recorded(published, signer):
    path = published.image("4.0.0")
    out = published("image-publish", IMAGE, "4.0.0", path, *signed(signer, signer.sign(path))).out
    info = published.json("image-info", IMAGE, "4.0.0")
    key_file = read(os.path.join(signer.keys, "admin.pub")).decode()
    # minisign writes the number without zeros before it
    assert info["signatureKeyId"].lstrip("0") in key_file and info["signatureKeyId"] in out and "built today" in out
    assert info["signatureComment"] == "built today" and info["sourceDigest"] == digest(path)
    assert published.json("image-info", IMAGE, "3.0.0")["signatureKeyId"] is None
    legacy = published.image("5.0.0")
    published("image-publish", IMAGE, "5.0.0", legacy, *signed(signer, signer.sign(legacy, "-l")))
    packed = pack(published.image("6.0.0"), ".xz")
    published("image-publish", IMAGE, "6.0.0", packed, *signed(signer, signer.sign(packed)))
    plain = published.image("7.0.0")
    piped(published, plain, "7.0.0", "-", "--format", "qcow2", *signed(signer, signer.sign(plain)))
    assert published.json("image-info", IMAGE, "7.0.0")["signatureComment"] == "built today"


def test_wrong_signatures_change_nothing(published, signer):
    path, other = published.image("4.0.0"), published.image("5.0.0")
    signature = signer.sign(path)
    for source in (other, pack(path, ".gz")):
        line = published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", source, *signed(signer, signature))
        assert "other bytes were signed" in line
    before = published.snapshot()
    assert "other bytes" in piped(published, other, "4.0.0", "-", "--format", "qcow2", *signed(signer, signature),
                                  status=REFUSED).stderr
    assert published.snapshot() == before
    published.fails(USAGE, "image-publish", IMAGE, "4.0.0", path, *signed(signer, path))
    pgp = published.write("a.asc", "-----BEGIN PGP SIGNATURE-----\n")
    assert "PGP" in published.fails(USAGE, "image-publish", IMAGE, "4.0.0", path, *signed(signer, pgp))
    published.fails(FAILED, "image-publish", IMAGE, "4.0.0", path, *signed(signer, "/nonexistent.minisig"))
    published.fails(FAILED, "image-publish", IMAGE, "4.0.0", path, "--signature", signature, "--keys", "/nonexistent")
    os.chmod(signer.keys, 0o777)
    assert "chmod go-w" in published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", path, *signed(signer, signature))
    os.chmod(signer.keys, 0o755)
    os.unlink(os.path.join(signer.keys, "admin.pub"))
    assert "which is not in" in published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", path,
                                                *signed(signer, signature))


def test_a_directory_of_keys_may_require_signatures(published, signer):
    path = published.image("4.0.0")
    signature = signer.sign(path)
    write(os.path.join(signer.keys, "REQUIRED"), b"")
    line = published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", path, "--keys", signer.keys)
    assert "REQUIRED" in line and "--signature" in line
    published("image-publish", IMAGE, "4.0.0", path, *signed(signer, signature))
    assert "REQUIRED" in published("image-publish", "--help").out


# --- compressed files and standard input ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_a_compressed_file(published, suffix):
    path = published.image("4.0.0")
    packed = pack(path, suffix)
    before = published.snapshot()
    out = published("image-publish", IMAGE, "4.0.0", packed, "--digest", "sha256:" + digest(packed), "--dry-run").out
    assert "would be published" in out and published.snapshot() == before
    published("image-publish", IMAGE, "4.0.0", packed, "--digest", "sha256:" + digest(packed))
    info = published.json("image-info", IMAGE, "4.0.0")
    assert info["sourceDigest"] == digest(packed) and info["storedDigest"] == digest(path) == digest(info["path"])
    assert info["format"] == "qcow2"
    assert "already" in published("image-publish", IMAGE, "4.0.0", packed).out
    line = published.fails(REFUSED, "image-publish", IMAGE, "5.0.0", packed, "--digest", "sha256:" + digest(path))
    assert digest(packed) in line


def test_what_is_wrong_with_a_compressed_file(published):
    good = read(published.image("4.0.0"))
    packers = {".xz": lzma.compress, ".gz": gzip.compress}
    for suffix, compress in packers.items():
        packed = compress(good)
        for name, content, word in (("cut", packed[:-5], "truncated"), ("tail", packed + b"garbage!", "follow"),
                                    ("none", good, "xz" if suffix == ".xz" else "gzip"), ("empty", b"", "truncated"),
                                    ("twice", compress(packed), "once more")):
            path = write(published.path(name + ".qcow2" + suffix), content)
            assert word in published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", path), (suffix, name)
        both = write(published.path("members.qcow2" + suffix), compress(good[:1000]) + compress(good[1000:]))
        published("image-publish", IMAGE, "4.0.0", both, "--dry-run")
    hidden = write(published.path("hidden.img"), gzip.compress(good))
    assert ".gz" in published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", hidden)
    backing = published.path("overlay.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", "-u", backing, "1M"],
                   check=True)
    assert "backing" in published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", pack(backing, ".xz"))
    raw = pack(published.path("1.0.0.qcow2"), ".gz")
    assert "raw" in published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", raw, "--format", "raw")


def test_a_bomb(published):
    """What comes out is limited, and what is zeros takes no space."""
    bomb = published.path("bomb.raw")
    with open(bomb, "wb") as file:
        file.write(b"\xeb")
        file.truncate(1 << 30)
    packed = pack(bomb, ".zst")
    line = published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", packed, "--max-size", "512M")
    assert "--max-size" in line and "512" in line
    assert "size" in published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", bomb, "--max-size", "512M")
    for size in ("0", "-1", "x", "5Q", "1Ki", "99999999999999999999", "16E"):
        published.fails(USAGE, "image-publish", IMAGE, "4.0.0", packed, "--max-size", size)
    published("image-publish", IMAGE, "4.0.0", packed, "--max-size", "1GiB")
    assert state_of(published, "4.0.0")["realSizeBytes"] < 1 << 20


def test_standard_input(published):
    path = published.image("4.0.0")
    sums = published.write("SUMS", digest(path) + "  -\n")
    before = published.snapshot()
    assert "would be" in piped(published, path, "4.0.0", "-", "--format", "qcow2", "--dry-run").stdout
    assert published.snapshot() == before
    piped(published, path, "4.0.0", "-", "--format", "qcow2", "--digest-file", sums)
    assert digest(published.json("image-info", IMAGE, "4.0.0")["path"]) == digest(path)
    assert "already" in piped(published, path, "4.0.0", "-", "--format", "qcow2").stdout
    before = published.snapshot()
    for arguments, status, word in (
            (["5.0.0", "-"], USAGE, "--format"), (["5.0.0", "-", "--format", "raw"], REFUSED, "raw"),
            (["5.0.0", "-", "--format", "qcow2", "--digest", "sha256:" + "0" * 64], REFUSED, "another digest"),
            (["5.0.0", "-", "--format", "qcow2", "--max-size", "1K"], REFUSED, "--max-size")):
        assert word in piped(published, path, *arguments, status=status).stderr
    assert "another digest" not in piped(published, "/dev/null", "5.0.0", "-", "--format", "raw", status=REFUSED).stderr
    assert "compressed" in piped(published, pack(path, ".gz"), "5.0.0", "-", "--format", "raw", status=REFUSED).stderr
    assert "other content" in piped(published, published.image("5.0.0"), "4.0.0", "-", "--format", "qcow2",
                                    status=REFUSED).stderr
    assert published.snapshot() == before


def start_piped(program, *arguments):
    return subprocess.Popen(program.command("image-publish", IMAGE, *arguments, "-", "--format", "raw"),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_temp(program):
    folder = os.path.join(program.root, "images", IMAGE)
    cheap_guest.wait_for(lambda: any(name.startswith(".tmp-") and os.path.exists(os.path.join(folder, name, "input-0"))
                                     for name in os.listdir(folder)), 20, "a temp directory")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_publication_that_is_ended_in_the_middle(published, number):
    before = published.snapshot()
    listed = published.json("image-list", IMAGE)
    run = start_piped(published, "4.0.0")
    run.stdin.write(b"\xeb" + os.urandom(2 << 20))
    run.stdin.flush()
    wait_temp(published)
    run.send_signal(number)
    status = run.wait(timeout=20)
    run.stdin.close()
    assert status == (FAILED if number == signal.SIGINT else -signal.SIGKILL)
    assert published.json("image-list", IMAGE) == listed
    if number == signal.SIGKILL:
        assert published.snapshot() != before  # what the next command that changes something sweeps
        published("image-include", IMAGE, "3.0.0")
    assert published.snapshot() == before


def test_nothing_is_left_of_a_first_version_that_failed(published):
    before = published.snapshot()
    path = write(published.path("bad.qcow2.xz"), lzma.compress(b"no image"))
    published("image-publish", "other", "1", path, status=REFUSED)
    published("image-publish", "other", "1", published.image("x"), "--digest", "sha256:" + "0" * 64, status=REFUSED)
    assert published.snapshot() == before


# --- verify and eligibility ----------------------------------------------------------------------------------


def damage(program, version):
    path = program.json("image-info", IMAGE, version)["path"]
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    return path


def test_verify_says_what_is_damaged(published):
    before = published.snapshot()
    assert published("image-verify", IMAGE).out.count("whole") == 3
    path = damage(published, "2.0.0")
    os.chown(published.json("image-info", IMAGE, "1.0.0")["path"], 65534, 65534)
    result = published("image-verify", IMAGE, status=REFUSED)
    assert "2 versions" in result.error() and "does not hold the bytes" in result.out and "65534" in result.out
    found = published.json("image-verify", IMAGE, status=REFUSED)["versions"]
    assert [(one["version"], one["whole"]) for one in found] == [("3.0.0", True), ("2.0.0", False), ("1.0.0", False)]
    assert path in found[1]["findings"][0]
    published("image-verify", IMAGE, "3.0.0")
    published("image-verify", IMAGE, "2", status=REFUSED)
    published("image-verify", IMAGE, "9", status=FAILED)
    published("image-verify", "other", status=FAILED)
    assert set(published.snapshot()) == set(before)


def test_the_list_says_what_is_eligible_and_why_not(published):
    published("image-exclude", IMAGE, "3.0.0", "--reason", "no network")
    os.unlink(os.path.join(published.root, "images", IMAGE, "2.0.0", "image.json"))
    states = {one["version"]: one for one in published.json("image-list", IMAGE)["images"]}
    assert [states[version]["eligible"] for version in ("3.0.0", "2.0.0", "1.0.0")] == [False, False, True]
    assert states["3.0.0"]["reason"] == "excluded: no network" and states["1.0.0"]["reason"] is None
    assert states["2.0.0"]["reason"].startswith("damaged: ") and states["2.0.0"]["path"] is None
    assert states["1.0.0"]["realSizeBytes"] > 0 and states["1.0.0"]["useCount"] == 0
    lines = published("image-list", IMAGE).out.splitlines()
    assert "excluded: no network" in lines[1] and "damaged" in lines[2] and lines[3].split()[-1] == "yes"
    published("image-exclude", IMAGE, "2.0.0")  # a damaged one is taken out
    assert published.json("image-info", IMAGE)["version"] == "1.0.0"


def test_versions_are_ordered_by_number(program):
    for version in ("1.9", "1.10", "1.2.30", "2"):
        program.publish(version)
    assert [one["version"] for one in program.json("image-list", IMAGE)["images"]] == ["2", "1.10", "1.9", "1.2.30"]


# --- delete and prune ----------------------------------------------------------------------------------------


def test_delete(published):
    before = published.snapshot()
    assert "would be deleted" in published("image-delete", IMAGE, "2.0.0", "--dry-run").out
    assert published.snapshot() == before
    assert "is deleted" in published("image-delete", IMAGE, "2").out
    assert [one["version"] for one in published.json("image-list", IMAGE)["images"]] == ["3.0.0", "1.0.0"]
    published.fails(FAILED, "image-delete", IMAGE, "2.0.0")
    published.fails(FAILED, "image-delete", "other", "2.0.0")
    published.fails(USAGE, "image-delete", IMAGE, "latest")
    published.fails(USAGE, "image-delete", "../x", "1")
    assert "libvirt" in published.fails(FAILED, "-c", NO_LIBVIRT, "image-delete", IMAGE, "3.0.0")
    os.unlink(os.path.join(published.root, "images", IMAGE, "1.0.0", "image.json"))
    published("image-delete", IMAGE, "1.0.0")  # damaged
    published("image-delete", IMAGE, "3.0.0")
    assert os.listdir(os.path.join(published.root, "images")) == []


def test_an_overlay_that_cannot_be_read(published):
    """What it refers to may be any version, so none goes; all else goes on, with a warning that names the file."""
    directory = os.path.join(published.root, "disks", "22222222-2222-4222-8222-222222222222")
    os.makedirs(directory)
    path = write(os.path.join(directory, "g1.qcow2"), b"garbage")
    listed = published("--json", "image-list", IMAGE)
    assert [one["useCount"] for one in listed.json["images"]] == [0, 0, 0]
    assert f"warning: it cannot be told what {path} refers to" in listed.err
    assert path in published("image-info", IMAGE, "1.0.0").err
    published.publish("4.0.0")
    line = published.fails(REFUSED, "image-delete", IMAGE, "1.0.0")
    assert f"it cannot be told what {path} refers to" in line and "nothing was deleted" in line
    pruned = published("image-prune", IMAGE, "--keep", "2").out
    assert pruned.count("stays: it may be in use: it cannot be told what") == 2 and "is deleted" not in pruned
    os.unlink(path)
    assert published("image-prune", IMAGE, "--keep", "2").out.count("is deleted") == 2


def test_delete_makes_no_store(program):
    program("image-delete", IMAGE, "1.0.0", status=FAILED)
    program("image-prune", IMAGE, "--keep", "1", status=FAILED)
    assert not os.path.exists(program.root)


def test_delete_that_is_killed_anywhere(published):
    """Whatever the moment: a version is there whole, or gone; the next command leaves nothing else."""
    path = published.path("2.0.0.qcow2")
    for step in range(12):
        published("image-publish", IMAGE, "2.0.0", path)
        run = published.start("image-delete", IMAGE, "2.0.0")
        time.sleep(0.02 + 0.012 * step)
        run.kill()
        run.communicate()
        versions = [one["version"] for one in published.json("image-list", IMAGE)["images"]]
        assert versions in (["3.0.0", "2.0.0", "1.0.0"], ["3.0.0", "1.0.0"])
        published("image-verify", IMAGE)
        published("image-include", IMAGE, "3.0.0")
        assert sorted(os.listdir(os.path.join(published.root, "images", IMAGE))) == sorted(versions)


def test_prune_keeps_the_newest(published):
    for version in ("4.0.0", "5.0.0", "6.0.0"):
        published.publish(version)
    published("image-exclude", IMAGE, "6.0.0")
    before = published.snapshot()
    dry = published.json("image-prune", IMAGE, "--keep", "2", "--dry-run")
    assert [one["version"] for one in dry["deleted"]] == ["3.0.0", "2.0.0", "1.0.0"]
    assert [(one["version"], one["reason"]) for one in dry["kept"]] == [
        ("6.0.0", "the newest"), ("5.0.0", "among those to keep"), ("4.0.0", "among those to keep")]
    assert published.snapshot() == before
    for keep in ("0", "-1", "x", "1.5", ""):
        published.fails(USAGE, "image-prune", IMAGE, "--keep", keep)
    assert "--keep" in published.fails(USAGE, "image-prune", IMAGE)
    out = published("image-prune", IMAGE, "--keep", "2").out
    assert out.count("is deleted") == 3 and out.count("stays") == 3
    assert [one["version"] for one in published.json("image-list", IMAGE)["images"]] == ["6.0.0", "5.0.0", "4.0.0"]
    assert published.json("image-prune", IMAGE, "--keep", "2")["deleted"] == []


# --- in use: by real guests ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="lab")
def fixture_lab():
    cheap_guest.sweep("gal-")
    with cheap_guest.Fleet(2, "gal-use", version="1.0.0") as fleet:
        fleet.start_all()
        yield Lab(fleet)


def test_what_is_in_use_stays(lab):
    program, (first, second) = lab.program, lab.names
    program("upgrade", lab.set_name, "--version", "2.0.0")
    one = state_of(program, "2.0.0")
    assert one["useCount"] == 2 and [user["name"] for user in one["usedBy"]] == [first, second]
    how = one["usedBy"][0]["how"]
    assert "g1.qcow2" in how and "running" in how and "its domain" in how and "generation 1, current" in how
    line = program.fails(REFUSED, "image-delete", IMAGE, "2.0.0")
    assert first in line and second in line and "g1.qcow2" in line
    assert first in program.fails(REFUSED, "image-delete", IMAGE, "1.0.0")  # what generation 0 is said to be
    pruned = program("image-prune", IMAGE, "--keep", "1").out
    assert "in use by" in pruned and "deleted" not in pruned
    without = program("-c", NO_LIBVIRT, "--json", "image-list", IMAGE)
    assert "note: " in without.err and [one["useCount"] for one in without.json["images"]] == [0, 2, 2]
    program("-c", NO_LIBVIRT, "image-delete", IMAGE, "3.0.0", status=FAILED)


def test_an_overlay_of_the_admin_s_own_counts(lab):
    """A guest that is off, on an overlay that lies elsewhere: only the file says what it needs."""
    program = lab.program
    base = program.json("image-info", IMAGE, "3.0.0")["path"]
    overlay = lab.fleet.path("admin.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay], check=True)
    guest = cheap_guest.Guest(lab.fleet, "gal-admin", 9)
    guest.os_disk = overlay
    guest.data = []
    guest.define()
    try:
        assert "gal-admin (its domain)" in program.fails(REFUSED, "image-delete", IMAGE, "3.0.0")
    finally:
        cheap_guest.remove_domain(guest.domain)
    assert program.json("image-info", IMAGE, "3.0.0")["useCount"] == 0


def test_a_pin_of_a_model_counts(lab):
    program = lab.program
    model = program.model(lab.set_name, lab.names, image="{name: cheap, version: 3.0.0}")
    program("set-define", "-", stdin=model)
    assert f"set {lab.set_name} (pinned by its model)" in program.fails(REFUSED, "image-delete", IMAGE, "3.0.0")
    program.publish("4.0.0")
    kept = {one["version"]: one["reason"] for one in program.json("image-prune", IMAGE, "--keep", "1")["kept"]}
    assert "pinned by its model" in kept["3.0.0"] and kept["4.0.0"] == "the newest"
    program("set-define", "-", stdin=program.model(lab.set_name, lab.names))
    program("image-delete", IMAGE, "3.0.0")


def make_unreadable(program, name):
    """As a program of tomorrow would have defined it."""
    with sqlite3.connect(os.path.join(program.root, "state.db")) as database:
        database.execute("UPDATE sets SET text = text || 'newer: 1\n' WHERE name = ?", (name,))
    database.close()


def test_a_set_that_cannot_be_read_is_in_the_way_of_deletions_only(lab):
    program, name = lab.program, lab.set_name
    model = program("set-dump", name).out
    make_unreadable(program, name)
    listed = program("--json", "image-list", IMAGE)
    assert f"set '{name}'" in listed.err and "newer" in listed.err
    assert state_of(program, "2.0.0")["useCount"] == len(lab.names)
    program("image-info", IMAGE, "2.0.0")
    for command in (["image-delete", IMAGE, "4.0.0"], ["image-prune", IMAGE, "--keep", "1"]):
        line = program.fails(REFUSED, *command)
        assert f"set '{name}'" in line and "set-dump" in line and "set-define" in line
    (listed,) = program.json("set-list")["sets"]
    assert listed["name"] == name and "newer" in listed["unreadable"] and listed["imageReference"] is None
    assert name in program("set-list").out and program("set-dump", name).out == model + "newer: 1\n"
    assert "newer" in program.fails(REFUSED, "upgrade", name)
    assert "newer" in program.fails(REFUSED, "status", name)
    assert "nothing is open" in program("recover").out and "nothing is open" in program("recover", name, "--dry-run").out
    assert "would be undefined" in program("set-undefine", name, "--dry-run").out
    program("set-define", "-", stdin=model)
    assert program.json("set-list")["sets"][0]["unreadable"] is None
    make_unreadable(program, name)
    assert "undefined" in program("set-undefine", name).out
    program("set-define", "-", stdin=model)
    program("image-delete", IMAGE, "4.0.0")


def test_a_snapshot_counts(lab):
    """What a domain's snapshot was taken on may not go while it is kept."""
    guest = lab.fleet[0]
    metadata = ("<domainsnapshot><name>gal</name><state>shutoff</state><creationTime>1</creationTime>"
                "<disks><disk name='vda' snapshot='internal'/><disk name='vdb' snapshot='internal'/></disks>"
                f"{guest.domain.XMLDesc(0)}</domainsnapshot>")
    guest.domain.snapshotCreateXML(metadata, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE)
    try:
        (user,) = [one for one in state_of(lab.program, "2.0.0")["usedBy"] if one["name"] == guest.name]
        assert "a snapshot, checkpoint or saved state" in user["how"]
    finally:
        guest.domain.snapshotLookupByName("gal").delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)


def test_a_domain_survives_all_that(lab):
    assert lab.versions() == lab.all_on("2.0.0")
    assert all(guest.is_running() for guest in lab.fleet)
