# SPDX-License-Identifier: LGPL-2.1-or-later
"""B2: the process of a run cannot open a data disk for writing (Landlock), does not try to, and a gate is free of that."""
import os
import shutil
import subprocess

import pytest

from program import DONE

EACCES = 13

# Each flush is followed by a try to open a data disk for writing, on the thread that flushes.
TRY_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void try_it(void)
{
    const char *disk = getenv("TRY_DISK"), *log = getenv("TRY_LOG");
    int fd, kept = errno, to;
    if (!disk || !log)
        return;
    fd = open(disk, O_RDWR | O_CLOEXEC);
    to = open(log, O_WRONLY | O_APPEND | O_CLOEXEC);
    dprintf(to, "%d\n", fd >= 0 ? 0 : errno);
    close(to);
    if (fd >= 0)
        close(fd);
    errno = kept;
}

int fsync(int fd)
{
    try_it();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd)
{
    try_it();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""

@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "confined")


def landlock(lab):
    """What doctor says."""
    return {one["check"]: one for one in lab.program.json("doctor")["checks"]}["landlock"]


def tries(lab, *arguments):
    """What became of each try, in order."""
    source, library = lab.program.write("try.c", TRY_SOURCE), lab.program.path("try.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    log = os.path.join(lab.program.root, "tries")
    with open(log, "w", encoding="ascii"):
        pass
    try:
        environment = dict(os.environ, LD_PRELOAD=library, TRY_DISK=lab.fleet[0].data[0][0], TRY_LOG=log,
                           ASAN_OPTIONS="verify_asan_link_order=0", VIRT_REIMAGE_DEBUG="1")
        done = subprocess.run(lab.program.command(*arguments), env=environment, capture_output=True, text=True, timeout=120, check=False)
        with open(log, encoding="ascii") as lines:
            return done, [int(line) for line in lines]
    finally:
        os.unlink(log)


@pytest.mark.parametrize("words", [("upgrade",), ("rollback", "--all")])
def test_no_thread_of_a_run_can_write_to_a_data_disk(lab, words):
    """Before it takes the set a process flushes a little, unrestricted; from then on every try fails."""
    if landlock(lab)["result"] != "ok":
        pytest.skip(landlock(lab)["text"])
    done, answers = tries(lab, words[0], lab.set_name, *words[1:])
    assert done.returncode == DONE, done.stderr
    first = answers.index(EACCES)
    assert set(answers[:first]) <= {0} and set(answers[first:]) == {EACCES}
    assert len(answers) - first > 20


def test_a_run_does_not_even_try(lab):
    """Without the kernel's help: what the program opens, as strace sees it, threads and child processes too."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    log = lab.program.path("trace")
    command = lab.program.command("upgrade", lab.set_name)
    subprocess.run(["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,creat,truncate,unlink,unlinkat,rename,renameat,renameat2", "-s", "300",
                    "-o", log, *command], check=True, timeout=300, capture_output=True,
                   env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))  # which wants to trace the process itself
    with open(log, encoding="utf-8", errors="replace") as lines:
        seen = [line for line in lines if any(path in line for guest in lab.fleet for path, _, _ in guest.data)]
    assert seen, "the proof of the data disks opens them"
    assert all("O_RDONLY" in line or "O_PATH" in line for line in seen), seen
    assert not any(flag in line for line in seen for flag in ("O_RDWR", "O_WRONLY", "O_TRUNC", "unlink", "rename", "truncate(")), seen
    lab.program("rollback", lab.set_name, "--all")


def test_a_gate_writes_where_it_likes(lab):
    """It is the admin's command, and no part of what is restricted."""
    note = lab.program.path("gate.log")
    lab.define(policy=f"  gate: [/bin/sh, -c, 'echo \"$@\" >> {note}', gate]\n")
    lab.program("upgrade", lab.set_name, "--version", "3.0.0")
    with open(note, encoding="utf-8") as lines:
        assert lab.set_name in lines.read()
    lab.define()
    assert lab.versions() == lab.all_on("3.0.0")


def test_doctor_says_it(lab):
    assert landlock(lab)["text"]
