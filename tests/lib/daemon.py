# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-reimaged for a store, on sockets of its own, as a child of the test."""
import os
import shutil
import signal
import subprocess
import tempfile
import time


class Daemon:
    """options: more of virt-reimaged's. Its sockets are in a directory with a short path; what it says is in the file `log`."""

    def __init__(self, program, root, *options, uri=None, environment=None):
        self.dir = tempfile.mkdtemp(prefix="vrd-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.log = os.path.join(self.dir, "log")
        self.command = [program, "--socket-dir", self.dir, "--root", root, "--debug", *options]
        if uri:
            self.command += ["--connect", uri]
        self.environment = {**os.environ, "VIRT_REIMAGE_CONF": os.path.join(self.dir, "conf"), **(environment or {})}
        self.configure("")
        self.process = None

    def configure(self, text):
        with open(os.path.join(self.dir, "conf"), "w", encoding="utf-8") as file:
            file.write(text)

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self):
        """Returns when it serves, and has looked at what is open."""
        said = len(self.said())
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
        deadline = time.monotonic() + 20
        while "begins, of the daemon's own: set-list" not in self.said()[said:]:
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return self

    def said(self):
        if not os.path.exists(self.log):
            return ""
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def jobs(self):
        """The words of the jobs that peers have asked for."""
        return [line.split(" begins: ", 1)[1] for line in self.said().splitlines() if " begins: " in line]

    def own_jobs(self):
        return [line.split("own: ", 1)[1] for line in self.said().splitlines() if " begins, of the daemon's own: " in line]

    def kill(self, number=signal.SIGKILL, timeout=30):
        """Sends the signal, and waits for its end. Returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def stop(self, timeout=60):
        return self.kill(signal.SIGTERM, timeout)

    def clean_up(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        said = self.said()
        shutil.rmtree(self.dir)
        assert "Sanitizer" not in said, said
