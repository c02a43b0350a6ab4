#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a command and adopts and reaps whatever it leaves behind, until nothing is left.

In a container pid 1 may reap orphans late or never.  libvirtd waits until QEMU's pid is gone, so
a late reap would show as a slow stop of the guest, or as none at all.

usage: subreaper.py COMMAND [ARGUMENT...]
"""
import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap_until_childless():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def descendants(pid):
    """The pids below this one, deepest last; a process that goes away meanwhile is left out."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
                found += [int(child) for child in children.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found + [below for child in found for below in descendants(child)]


def is_gone(pid):
    """Ended, also where nobody has reaped it yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may go between the two
        return True


def main(command):
    if not command:
        sys.exit(__doc__)
    become_subreaper()
    if os.fork() == 0:
        os.execvp(command[0], command)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reap_until_childless()


if __name__ == "__main__":
    main(sys.argv[1:])
