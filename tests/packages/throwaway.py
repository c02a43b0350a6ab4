# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host to throw away: this machine's own file system under an overlay in memory, in namespaces of its own.

What is installed, written or removed there is gone with it, and the machine sees none of it.  It has its own processes, network, /run and /dev, and its own
libvirt with no guests.  Process 1 is either one that only waits, or a real systemd.  It is ready in a second, since nothing is
copied; it shows nothing about dependencies (test_clean_install.py does).
"""
import os
import shutil
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
NAMESPACES = ["--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts", "--ipc", "--net", "--propagation", "private"]
WAIT = ["/usr/bin/python3", "-c", "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); signal.pause()"]
# Mounts of control groups that the machine itself saw would be taken for its own by a libvirtd that starts a guest meanwhile.
HOLD = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--", "sh", "-c", 'mount -t cgroup2 cgroup2 "$0" && echo held && exec sleep infinity']
SYSTEMD = ["/lib/systemd/systemd", "--system", "--log-target=journal"]
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Done:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err


class Throwaway:
    """A context manager; call it with a command's words to run it there."""

    def __init__(self, systemd=False, base="/"):
        self.init = SYSTEMD if systemd else WAIT
        self.systemd, self.base = systemd, base
        self.dir = self.process = self.cgroup = self.holder = None
        self.pid = 0  # of its process 1

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="vr-throwaway-", dir="/run")
        try:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", self.dir], check=True)
            for name in ("upper", "work", "root", "cgroup"):
                os.mkdir(f"{self.dir}/{name}", 0o755)
            self.holder = subprocess.Popen([*HOLD, f"{self.dir}/cgroup"], stdout=subprocess.PIPE, text=True)
            assert self.holder.stdout.readline() == "held\n"
            group = f"/proc/{self.holder.pid}/root{self.dir}/cgroup/{os.path.basename(self.dir)}"
            os.mkdir(group)
            self.cgroup = group  # units of its systemd are groups below that
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        self.end()
        if self.cgroup:
            self.wait_gone()
        if self.holder:
            self.holder.kill()
            self.holder.wait()
            self.holder.stdout.close()
        subprocess.run(["umount", "-l", self.dir], check=False)
        os.rmdir(self.dir)
        return False

    def boot(self):
        """Also after end(): what was written is still there, what ran is not."""
        environment = {"PATH": PATH, "container": "throwaway", "LANG": "C.UTF-8"}
        self.process = subprocess.Popen(["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', self.cgroup, "unshare", *NAMESPACES, "--",
                                         f"{HERE}/enter-throwaway", self.dir, self.base, TOP, *self.init],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        self.wait_for(lambda: self.find_init() and self.run("test", "-e", "/run/ready").status == 0, 20, "its process 1 runs")
        if self.systemd:
            self.wait_for(lambda: self.run("systemctl", "is-system-running").out.strip() in ("running", "degraded"), 60, "systemd is up")

    def find_init(self):
        """The one child of unshare(1)."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as children:
            pids = children.read().split()
        self.pid = int(pids[0]) if pids else 0
        return self.pid

    def end(self):
        """As power loss: process 1 is killed, and with it all that runs there."""
        if self.process:
            self.process.kill()  # --kill-child
            self.process.wait()
            self.process = None

    def power_off(self, timeout=120):
        """As its systemd does it; boot() again."""
        self.run("systemctl", "poweroff", "--no-wall")
        self.process.wait(timeout)
        self.process = None

    def wait_gone(self):
        """The groups that its systemd made go from below."""
        def remove():
            for folder, _, _ in os.walk(self.cgroup, topdown=False):
                os.rmdir(folder)
        for last in [False] * 50 + [True]:
            try:
                return remove()
            except OSError:  # something there has not ended yet
                if last:
                    raise
                time.sleep(0.1)

    def command(self, *words, user=None):
        enter = ["nsenter", "-t", str(self.pid), "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--root", "--wd"]
        switch = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"] if user else []
        return [*enter, "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", "HOME=/root" if not user else f"HOME=/home/{user}",
                "DEBIAN_FRONTEND=noninteractive", *switch, *words]

    def run(self, *words, user=None, stdin="", timeout=120):
        done = subprocess.run(self.command(*words, user=user), input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def __call__(self, *words, status=0, **options):
        """Runs it; the exit status must be the one that is given. What it printed."""
        done = self.run(*words, **options)
        assert done.status == status, (words, done.status, done.out, done.err)
        return done.out + done.err

    def start(self, *words, **options):
        return subprocess.Popen(self.command(*words, **options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True)

    def path(self, path):
        """Where a path of it is for us; when it is off, of what was written there."""
        if not self.process:
            return f"{self.dir}/upper{path}"
        return f"/proc/{self.pid}/root{path}"

    def exists(self, path):
        return os.path.lexists(self.path(path))

    def read(self, path):
        with open(self.path(path), encoding="utf-8", errors="replace") as file:
            return file.read()

    def append(self, path, text):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "a", encoding="ascii") as file:
            file.write(text)

    def put(self, source, path):
        shutil.copy(source, self.path(path))
        return path

    def wait_for(self, condition, timeout, what):
        end = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, "the throw-away host has ended"
            assert time.monotonic() < end, f"not within {timeout} s: {what}"
            time.sleep(0.1)
