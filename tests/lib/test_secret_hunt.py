# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hunt for secrets finds what is put in its way on purpose (invariant 29)."""
import base64
import os
import secrets
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lib.secret_hunt import Hunt  # noqa: E402


@pytest.fixture(name="secret")
def fixture_secret():
    return secrets.token_hex(16)


@pytest.fixture(name="directory")
def fixture_directory():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        os.chmod(path, 0o711)  # nobody lists it, and passes
        yield path


def write(path, data, mode):
    with open(path, "wb") as file:
        file.write(b"before\n" + data + b"\nafter")
    os.chmod(path, mode)
    return path


def test_processes(secret):
    with Hunt(secret) as hunt:
        subprocess.run(["sleep", "0.3"], env={"TOKEN": "innocent"}, check=True)
    assert hunt.in_processes == set()
    with Hunt(secret) as hunt:
        subprocess.run(["/bin/sh", "-c", "sleep 0.3; exit 0", f"--password={secret}"], check=True)
        subprocess.run(["sleep", "0.3"], env={"TOKEN": secret}, check=True)
    assert {name.split()[0] for name in hunt.in_processes} == {"cmdline", "environ"}


def test_files(secret, directory):
    hunt = Hunt(secret)
    closed = os.path.join(directory, "closed")
    os.mkdir(closed, 0o700)
    hidden = [write(os.path.join(closed, "open"), secret.encode(), 0o644),
              write(os.path.join(directory, "private"), secret.encode(), 0o600)]
    shown = [write(os.path.join(directory, f"request-{i}"), base64.b64encode(b"x" * i + secret.encode() + b"y"), 0o644) for i in range(3)]
    shown.append(write(os.path.join(directory, "xml"), secret.encode(), 0o604))
    write(os.path.join(directory, "other"), b"nothing", 0o644)
    write(os.path.join(directory, "disk.raw"), secret.encode(), 0o600)
    assert hunt.in_open_files(directory) == sorted(shown)
    assert hunt.in_files(directory, but=[".raw"]) == sorted(hidden + shown)
    assert not Hunt(secret).in_files(directory)  # what was there before
