# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks for secrets where they must not be: in the arguments and the environment of any process of this host, in files that everybody can
read, and in files of any mode of chosen directories.  A secret that is base64, as in a request to a guest agent, is found too."""
import base64
import mmap
import os
import pwd
import re
import stat
import subprocess
import threading
import time

TICK_S = 0.01
YOUNG_S = 1.0  # so long after it came a process may still be another program's
EVERYWHERE = ["/dev/shm", "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var"]


def spellings(secret):
    """The secret as it is, and what base64 makes of it wherever it stands in a text."""
    data = secret.encode()
    coded = [base64.b64encode(b"\0" * before + data)[(0, 2, 3)[before]:].rstrip(b"=")[:-1] for before in range(3)]
    return [data, *coded]


class Hunt:
    """A context manager: processes are looked at as long as it lasts, and files that changed since it began."""

    def __init__(self, *secrets):
        self.secrets, self.pattern = [], None
        self.add(*secrets)
        self.since_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        self.in_processes = set()
        self.born, self.ended = {}, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.ended.set()
        self.thread.join()
        return False

    def add(self, *secrets):
        """Processes are searched for it from now on, files since the hunt began."""
        assert all(len(secret) >= 16 for secret in secrets)
        self.secrets += secrets
        self.pattern = re.compile(b"|".join(re.escape(one) for secret in self.secrets for one in spellings(secret)))

    def is_in(self, text):
        return self.pattern.search(text.encode()) is not None

    # ---- processes ----

    def watch(self):
        look_at_all = 0.0
        while not self.ended.wait(TICK_S):
            now = time.monotonic()
            pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
            self.born = {pid: self.born.get(pid, now) for pid in pids}
            for pid in pids:
                if now >= look_at_all or now - self.born[pid] < YOUNG_S:
                    self.look_at(pid)
            if now >= look_at_all:
                look_at_all = now + YOUNG_S

    def look_at(self, pid):
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    if self.pattern.search(file.read()):
                        self.in_processes.add(f"{name} of {os.readlink(f'/proc/{pid}/exe')}")
            except OSError:
                pass

    # ---- files ----

    def changed(self, directory):
        """The regular files beneath it."""
        try:
            entries = list(os.scandir(directory))
        except OSError:
            return
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from self.changed(entry.path)
                elif entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_ctime_ns >= self.since_ns:
                    yield entry.path
            except OSError:
                continue

    def has(self, path):
        try:
            with open(path, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or os.fstat(file.fileno()).st_size == 0:
                    return False
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
                    return self.pattern.search(content) is not None
        except (OSError, ValueError):  # ValueError: it is empty now
            return False

    def in_files(self, *directories, but=()):
        """Whatever their mode; but: suffixes of names that are left out."""
        return sorted(path for directory in directories for path in self.changed(directory)
                      if not path.endswith(tuple(but)) and self.has(path))

    def in_open_files(self, *directories):
        """Those that an unprivileged user can read who knows the names."""
        paths = [path for directory in directories for path in self.changed(directory)]
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            self.tell_as_nobody(paths, writing)
        os.close(writing)
        with open(reading, encoding="utf-8") as answer:
            found = answer.read().splitlines()
        assert os.waitpid(child, 0)[1] == 0
        return sorted(found)

    def tell_as_nobody(self, paths, answer):
        status = 1
        try:
            nobody = pwd.getpwnam("nobody")
            os.setgroups([])
            os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
            os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
            with open(answer, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"{path}\n" for path in paths if self.has(path))
            status = 0
        finally:
            os._exit(status)
