# SPDX-License-Identifier: LGPL-2.1-or-later
"""A1, A2, A4, A5, A9, A10, B6: the gallery, and wrong images that change nothing."""
import hashlib
import os
import re
import stat
import subprocess

import pytest

from program import FAILED, IMAGE, REFUSED, USAGE


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def overlay_on(program, base):
    path = program.path("overlay.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path], check=True)
    return path


def test_check_accepts_a_good_image(program):
    path = program.image("1.0.0")
    assert "accepted: qcow2" in program("image-check", path).out
    verdict = program.json("image-check", path)
    assert verdict["accepted"] and verdict["format"] == "qcow2" and verdict["virtualSizeBytes"] == 1024 * 1024
    assert not os.path.exists(program.root)


def make(program, name, *arguments):
    path = program.path(name)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *arguments, path, "4M"], check=True)
    return path


def test_check_says_what_the_image_is(program):
    path = make(program, "a.qcow2", "-o", "extended_l2=on,lazy_refcounts=on,compression_type=zstd,cluster_size=128k")
    out = program("image-check", path).out
    assert "version 3, clusters of 128.0 KiB, refcounts of 16 bits" in out
    assert "features: zstd, extended-l2, lazy-refcounts" in out
    verdict = program.json("image-check", path)
    assert verdict["features"] == ["zstd", "extended-l2", "lazy-refcounts"] and verdict["clusterSizeBytes"] == 128 * 1024
    assert verdict["qcow2Version"] == 3 and verdict["refcountBits"] == 16 and verdict["warning"] is None
    assert verdict["rulesVersion"] >= 2


def test_check_asks_qemu_img_about_what_passes(program):
    """Refcounts are what our own rules do not look at: of the header corruption, of an unused cluster a leak."""
    path = make(program, "a.qcow2", "-o", "cluster_size=64k")
    os.chmod(path, 0o600)
    os.truncate(path, 8 * 65536)
    with open(path, "r+b") as file:
        file.seek(2 * 65536 + 2 * 6)
        file.write(b"\0\1")
    assert "leaked" in program("image-check", path).err
    assert "1 clusters are leaked" in program.json("image-check", path)["warning"]
    with open(path, "r+b") as file:
        file.seek(2 * 65536)
        file.write(b"\0\0")
    assert program.json("image-check", path, status=REFUSED)["rule"] == "tool-corrupt"
    program("image-publish", IMAGE, "1.0.0", path, status=REFUSED)


def test_check_refuses_a_backing_file(program):
    path = overlay_on(program, program.image("1.0.0"))
    assert "backing" in program("image-check", path, status=REFUSED).error()
    verdict = program.json("image-check", path, status=REFUSED)
    assert not verdict["accepted"] and verdict["rule"] == "backing-file"
    alone = program.path("alone.qcow2")
    said = program("image-publish", IMAGE, "1.0.0", path, status=REFUSED).err
    command = re.search(r"'(qemu-img convert -O qcow2) OLD NEW.qcow2'", said)[1]
    subprocess.run([*command.split(), path, alone], check=True)  # what is told to type makes it right
    program("image-publish", IMAGE, "1.0.0", alone)


def test_check_refuses_another_format_than_said(program):
    path = program.image("1.0.0")
    program("image-check", path, "--format", "qcow2")
    assert "raw" in program("image-check", path, "--format", "raw", status=REFUSED).error()
    program("image-check", path, "--format", "vmdk", status=USAGE)


def test_publish_makes_a_version_visible_and_immutable(program):
    path = program.image("1.0.0")
    out = program("image-publish", IMAGE, "1.0.0", path, "--digest", f"sha256:{digest(path)}").out
    assert "published" in out and digest(path) in out
    image = program.json("image-info", IMAGE, "1.0.0")
    assert image["sourceDigest"] == image["storedDigest"] == digest(path) == digest(image["path"])
    assert stat.S_IMODE(os.stat(image["path"]).st_mode) == 0o444
    before = program.snapshot()
    assert "already" in program("image-publish", IMAGE, "1.0.0", path).out
    assert program.snapshot() == before


def test_list_info_and_latest(published):
    versions = [image["version"] for image in published.json("image-list", IMAGE)["images"]]
    assert versions == ["3.0.0", "2.0.0", "1.0.0"]
    out = published("image-list").out
    assert out.splitlines()[0].split()[:2] == ["NAME", "VERSION"]
    assert published.json("image-info", IMAGE)["version"] == "3.0.0"
    assert "3.0.0" in published("image-info", IMAGE).out
    assert "2.0.0" in published("image-info", IMAGE, "9.9.9", status=FAILED).error()


def test_exclude_takes_a_version_out_of_latest(published):
    before = published.snapshot()
    published("image-exclude", IMAGE, "3.0.0", "--dry-run")
    assert published.snapshot() == before
    published("image-exclude", IMAGE, "3.0.0", "--reason", "no network")
    assert published.json("image-info", IMAGE)["version"] == "2.0.0"
    excluded = published.json("image-info", IMAGE, "3.0.0")
    assert excluded["excluded"] and excluded["excludedReason"] == "no network"
    assert "excluded: no network" in published("image-list").out
    published("image-include", IMAGE, "3.0.0", "--dry-run")
    assert published.json("image-info", IMAGE)["version"] == "2.0.0"
    published("image-include", IMAGE, "3.0.0")
    assert published.json("image-info", IMAGE)["version"] == "3.0.0"


def test_identity_is_the_same_for_all_versions(program):
    names = ["--publisher", "local", "--offer", "cheap", "--sku", "1"]
    program("image-publish", IMAGE, "1.0.0", program.image("1.0.0"), *names)
    image = program.json("image-info", IMAGE)
    assert (image["publisher"], image["offer"], image["sku"]) == ("local", "cheap", "1")
    other = ["--publisher", "local", "--offer", "cheap", "--sku", "2"]
    program.fails(REFUSED, "image-publish", IMAGE, "2.0.0", program.image("2.0.0"), *other)


def test_a_dry_run_of_the_first_publication_makes_no_store(program):
    out = program("image-publish", IMAGE, "1.0.0", program.image("1.0.0"), "--dry-run").out
    assert "would be published" in out
    assert not os.path.exists(program.root)
    overlay = overlay_on(program, program.path("1.0.0.qcow2"))
    program("image-publish", IMAGE, "1.0.0", overlay, "--dry-run", status=REFUSED)
    assert not os.path.exists(program.root)


def test_a_dry_run_publishes_nothing(published):
    before = published.snapshot()
    published("image-publish", IMAGE, "4.0.0", published.image("4.0.0"), "--dry-run")
    assert published.snapshot() == before


# --- what is stored ------------------------------------------------------------------------------------------


def same_disk(a, a_format, b, b_format):
    subprocess.run(["qemu-img", "compare", "-q", "-f", a_format, "-F", b_format, a, b], check=True)


def test_what_is_stored_stands_alone_and_is_not_compressed(program):
    path = program.image("1.0.0")
    packed, raw = program.path("packed.qcow2"), program.path("a.raw")
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", path, packed], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
    assert "features: compressed" in program("image-check", packed).out
    for version, source, options, stored in (("1", packed, [], "qcow2"), ("2", packed, ["--as", "raw"], "raw"),
                                             ("3", raw, [], "qcow2"), ("4", raw, ["--as", "raw"], "raw")):
        rehearsed = program("image-publish", IMAGE, version, source, *options, "--dry-run").out
        said = program("image-publish", IMAGE, version, source, *options, "--limit-rate", "1G").out
        assert rehearsed.replace("would be published", "published").splitlines()[0] == said.splitlines()[0]
        image = program.json("image-info", IMAGE, version)
        assert image["format"] == stored and image["path"].endswith("disk." + stored)
        assert image["sourceDigest"] == digest(source) and image["storedDigest"] == digest(image["path"])
        same_disk(path, "qcow2", image["path"], stored)
        assert program.json("image-check", image["path"])["features"] == []
        program("image-verify", IMAGE, version)
    line = program.fails(USAGE, "image-publish", IMAGE, "5", packed, "--as", "vmdk")
    assert "vmdk" in line
    assert "size" in program.fails(USAGE, "image-publish", IMAGE, "5", packed, "--limit-rate", "fast")


def test_a_chain_that_is_named_becomes_one_image(published):
    base = published.path("1.0.0.qcow2")
    top = overlay_on(published, base)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 4k 64k", top], check=True, stdout=subprocess.DEVNULL)
    assert "--flatten" in published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", top)
    other = published.path("2.0.0.qcow2")
    line = published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", top, "--flatten", other)
    assert "1.0.0.qcow2" in line and "2.0.0.qcow2" in line
    published("image-publish", IMAGE, "4.0.0", top, "--flatten", base)
    image = published.json("image-info", IMAGE, "4.0.0")
    same_disk(top, "qcow2", image["path"], "qcow2")
    assert published.json("image-check", image["path"])["accepted"]
    assert "already" in published("image-publish", IMAGE, "4.0.0", top, "--flatten", base).out
    assert "REQUIRED" not in published.fails(USAGE, "image-publish", IMAGE, "5.0.0", top, "--flatten", "-")


# --- wrong input: its own error, its exit status, nothing changed ------------------------------------------


def test_a_missing_file(published):
    line = published.fails(FAILED, "image-publish", IMAGE, "4.0.0", "/nonexistent/image.qcow2")
    assert "/nonexistent/image.qcow2" in line and "No such file" in line
    published.fails(FAILED, "image-check", "/nonexistent/image.qcow2")


def test_an_image_with_a_backing_file(published):
    path = overlay_on(published, published.path("1.0.0.qcow2"))
    assert "backing" in published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", path)


def test_a_symbolic_link(published):
    link = published.path("link.qcow2")
    os.symlink(published.path("1.0.0.qcow2"), link)
    for arguments in (["image-check", link], ["image-publish", IMAGE, "4.0.0", link]):
        result = published.run(*arguments)
        assert result.status in (USAGE, REFUSED) and "link" in result.error()


@pytest.mark.parametrize("options,refused", [([], True), (["-r"], False)])
def test_the_disk_of_a_running_guest(published, options, refused):
    """A9: qemu-io has the locks on it that the QEMU of a guest has; with -r, those of one that runs on an overlay of it."""
    path = published.image("4.0.0")
    publish = ["image-publish", IMAGE, "4.0.0", path]
    with subprocess.Popen(["qemu-io", *options, "-f", "qcow2", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdin.write(b"length\n")
        holder.stdin.flush()
        assert b"qemu-io>" in holder.stdout.read(8)  # it has opened the file
        if refused:
            failed = published(*publish, status=REFUSED)
            assert "written to by a running guest" in failed.error() and "shut that guest down" in failed.err
            with open(path, "rb") as file:
                piped = subprocess.run(published.command("image-publish", IMAGE, "4.0.0", "-", "--format", "qcow2"), stdin=file, capture_output=True,
                                       text=True, env=published.environment, timeout=60, check=False)
            assert piped.returncode == REFUSED and "running guest" in piped.stderr
        else:
            published(*publish)
        holder.stdin.close()
    if refused:
        published(*publish)


def test_a_wrong_digest(published):
    path = published.image("4.0.0")
    wrong = "sha256:" + "0" * 64
    line = published.fails(REFUSED, "image-publish", IMAGE, "4.0.0", path, "--digest", wrong)
    assert digest(path) in line or "digest" in line
    published.fails(USAGE, "image-publish", IMAGE, "4.0.0", path, "--digest", "sha256:12")


def test_a_version_that_exists_with_other_content(published):
    other = published.image("other")
    line = published.fails(REFUSED, "image-publish", IMAGE, "1.0.0", other)
    assert "1.0.0" in line


def test_a_version_that_is_no_version(published):
    path = published.path("1.0.0.qcow2")
    assert "20241004.1890" in published.fails(USAGE, "image-publish", IMAGE, "20241004-1890", path)
    for version in ("", "1.2.3.4.5", "v1", "../1", "latest"):
        published.fails(USAGE, "image-publish", IMAGE, version, path)
    for name in ("", ".", "..", "/etc", "a/b", "a b", "json:{}", "-x", "x" * 129):
        published.fails(USAGE, "image-publish", "--", name, "4.0.0", path)


def test_reading_without_a_store_says_what_to_do(program):
    assert "publish" in program("image-list", status=FAILED).error()
    assert not os.path.exists(program.root)
