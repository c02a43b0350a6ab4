# SPDX-License-Identifier: LGPL-2.1-or-later
"""A base that guests run on stays as it was published, and is all that a security driver would let them read. A10, invariants 2 and 6, SAFETY 4.2, 4.21."""
import hashlib
import os
import stat
import subprocess
from xml.etree import ElementTree

import libvirt
import pytest

from lib import cheap_guest
from program import REFUSED

AA_HELPER = "/usr/lib/libvirt/virt-aa-helper"


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "bases")


def facts(path):
    """What must not change of a file; not the times of access."""
    seen = os.stat(path)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return {"mode": stat.S_IMODE(seen.st_mode), "owner": (seen.st_uid, seen.st_gid), "inode": seen.st_ino, "size": seen.st_size,
            "mtime": seen.st_mtime_ns, "ctime": seen.st_ctime_ns, "digest": digest, "xattrs": sorted(os.listxattr(path))}


def images(lab):
    found = {}
    for directory, _, names in os.walk(lab.program.root + "/images"):
        for name in names:
            path = os.path.join(directory, name)
            found[path] = facts(path)
    return found


def chain(domain):
    """The OS disk of the XML that a host starts from: [(path, element), ...], the overlay first, and whether its end is said."""
    tree = ElementTree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    disk = next(one for one in tree.iter("disk") if one.find("target").get("dev") == "vda")
    links, link = [], disk
    while link is not None and link.find("source") is not None:
        links.append((link.find("source").get("file"), link))
        link = link.find("backingStore")
    return links, link is not None and len(link) == 0


def apparmor_rules(domain, uuid):
    """What libvirt's helper would let QEMU do, by path; it computes that from the XML alone, without a kernel that has AppArmor."""
    done = subprocess.run([AA_HELPER, "-d", "-c", "-u", f"libvirt-{uuid}"], input=domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE),
                          capture_output=True, text=True, check=True)
    rules = {}
    for line in (done.stdout + done.stderr).splitlines():
        words = line.strip().rstrip(",").rsplit('" ', 1)
        if line.strip().startswith('"') and len(words) == 2:
            rules[words[0].strip('"')] = words[1]
    return rules


@pytest.fixture(name="domains")
def fixture_domains(lab):
    connection = libvirt.open(cheap_guest.URI)
    yield [connection.lookupByName(name) for name in lab.names]
    connection.close()


def test_bases_stay_as_they_were_published(lab, domains):
    """Invariant 2: size, digest, owner and mode are the same before and after guests started, ran, stopped and went back."""
    before = images(lab)
    assert {stat["mode"] for path, stat in before.items() if "/disk." in path} == {0o444}
    assert {stat["owner"] for stat in before.values()} == {(0, 0)}
    for arguments in (["upgrade", lab.set_name, "--version", "2.0.0"], ["upgrade", lab.set_name],
                      ["rollback", lab.set_name, lab.names[0]], ["reimage", lab.set_name, "--all"]):
        lab.program(*arguments)
        assert images(lab) == before, arguments
    for domain in domains:
        domain.destroy()
        domain.create()
    assert images(lab) == before
    assert "in use" in lab.program.fails(REFUSED, "image-delete", "cheap", "3.0.0")
    assert images(lab) == before


def test_chain_is_explicit_and_ends(lab, domains):
    """SAFETY 4.2: overlay, base, end; the base is not relabelled by either model."""
    for domain in domains:
        links, ended = chain(domain)
        assert [path.startswith(lab.program.root + part) for (path, _), part in zip(links, ("/disks/", "/images/"))] == [True, True]
        assert len(links) == 2 and ended
        labels = links[1][1].find("source").findall("seclabel")
        assert {(one.get("model"), one.get("relabel")) for one in labels} == {("dac", "no"), ("selinux", "no")}
        assert not links[0][1].find("source").findall("seclabel")


def test_apparmor_would_let_the_guest_run(lab, domains):
    """SAFETY 4.21: the helper sees the whole chain in the XML, the overlay to write and the base to read, and no other disk."""
    for domain in domains:
        links, _ = chain(domain)
        rules = apparmor_rules(domain, domain.UUIDString())
        (overlay, _), (base, _) = links
        assert "w" in rules[overlay] and "w" not in rules[base] and "r" in rules[base]
        ours = {path for path in rules if path.startswith(lab.program.root)}
        assert ours == {overlay, base}
