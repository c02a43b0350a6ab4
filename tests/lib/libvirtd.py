# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirtd for tests: the host's, started when none runs, and private ones that a test may hang or kill.

A PrivateLibvirtd lives in a mount namespace with its own /etc/libvirt/qemu, /var/lib/libvirt and so on, all
empty; only its socket lies in a directory that others see.  It knows nothing of the host's guests, and
whatever a test does to it harms nobody.  Its processes are known by being below our sub-reaper.

usage: libvirtd.py --serve           a private libvirtd until the end of standard input; prints its "URI PID"; at each line there it
                                     is killed, and there is another one in its place, whose "URI PID" is printed
       libvirtd.py --run COMMAND...  runs COMMAND with the host's libvirtd, started for it when none runs
"""
import atexit
import ctypes
import grp
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import libvirt

HERE = os.path.dirname(os.path.abspath(__file__))
if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(HERE))

from lib import subreaper  # noqa: E402  (after the path, when this is the program)

PYTHON = sys.executable or "/usr/bin/python3"
SUBREAPER = [PYTHON, os.path.join(HERE, "subreaper.py")]
SYSTEM_URI = "qemu:///system"
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
PRIVATE_DIRS = ["/run/libvirt", "/var/lib/libvirt", "/etc/libvirt/qemu", "/etc/libvirt/storage",
                "/etc/libvirt/secrets", "/var/cache/libvirt", "/var/log/libvirt"]

libvirt.registerErrorHandler(lambda context, error: None, None)


def answers(uri):
    try:
        libvirt.open(uri).close()
        return True
    except libvirt.libvirtError:
        return False


def wait_answer(uri, process, timeout=30):
    end = time.monotonic() + timeout
    while not answers(uri):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"libvirtd does not answer at {uri}")
        time.sleep(0.1)


def stop_tree(process):
    """Ends a sub-reaper that we started and all that is below it, by pid."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for pid in subreaper.descendants(process.pid):
            for one in (signal.SIGCONT, sent):
                try:
                    os.kill(pid, one)
                except ProcessLookupError:
                    pass
        try:
            process.wait(timeout=5)
            return
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait()


def start(command):
    return subprocess.Popen([*SUBREAPER, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)


def give_kvm_to_its_group():
    """What udev does. With a /dev/kvm that only root can open, libvirt asks QEMU anew at each define: 10 s, with a guest off."""
    kvm = "/dev/kvm"
    if os.path.exists(kvm) and not os.path.isdir("/run/udev") and os.stat(kvm).st_gid != grp.getgrnam("kvm").gr_gid:
        os.chown(kvm, 0, grp.getgrnam("kvm").gr_gid)
        os.chmod(kvm, 0o660)


def ensure():
    """Starts virtlogd and libvirtd when qemu:///system does not answer; what was started ends with this process."""
    give_kvm_to_its_group()
    if answers(SYSTEM_URI):
        return
    for daemon in ("virtlogd", "libvirtd"):
        process = start([shutil.which(daemon) or f"/usr/sbin/{daemon}", "-d"])
        atexit.register(stop_tree, process)
    wait_answer(SYSTEM_URI, process)


class PrivateLibvirtd:
    """A context manager; .uri to connect to, .pid of libvirtd itself for signals.

    network: it gets a network namespace, too, in which it may make bridges and networks, and nothing of them is seen outside.  What
    runs there by .command() has it as qemu:///system.
    """

    def __init__(self, network=False):
        self.dir = self.pid = None
        self.network = network
        self.namespaces = {}  # of a libvirtd that crashed: nsenter's option -> file descriptor
        self.processes = []  # sub-reapers: guests stay below the one that started them

    @property
    def uri(self):
        return f"qemu:///system?socket={self.dir}/libvirt-sock"

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="vr-libvirtd-", dir="/run")
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        self.end()
        shutil.rmtree(self.dir, ignore_errors=True)
        return False

    def start(self):
        word = "--become-host" if self.network else "--become"
        self.processes.append(start([PYTHON, os.path.abspath(__file__), word, self.dir]))
        wait_answer(self.uri, self.processes[-1])
        self.read_pid()

    def read_pid(self):
        with open(f"{self.dir}/pid", encoding="ascii") as file:
            self.pid = int(file.read())

    def end(self):
        """Ends libvirtd and its guests.  Its namespace and so its definitions go too."""
        while self.processes:
            stop_tree(self.processes.pop())

    def command(self, *argv, directory="/"):
        """That runs a program in its namespaces."""
        return ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", f"--net=/proc/{self.pid}/ns/net", "env", "-C", directory, *argv]

    def crash(self):
        """SIGKILL to libvirtd alone: its guests run on, and its namespaces wait for the next one."""
        for option, name in (("--mount", "mnt"), ("--net", "net")):
            self.namespaces[option] = os.open(f"/proc/{self.pid}/ns/{name}", os.O_RDONLY)
        os.kill(self.pid, signal.SIGKILL)
        while not subreaper.is_gone(self.pid):
            time.sleep(0.02)

    def in_its_namespace(self, script, stdin=""):
        """After crash(): runs a shell where it was."""
        namespace = self.namespaces["--mount"]
        subprocess.run(["nsenter", f"--mount=/proc/self/fd/{namespace}", "sh", "-ec", script], check=True, pass_fds=[namespace], input=stdin, text=True)

    def restart(self):
        """After crash(): another libvirtd in the same namespaces, which finds the guests that run."""
        enter = [f"{option}=/proc/self/fd/{namespace}" for option, namespace in self.namespaces.items()]
        process = subprocess.Popen([*SUBREAPER, "nsenter", *enter, *libvirtd_command(self.dir)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                                   pass_fds=list(self.namespaces.values()))
        wait_answer(self.uri, process)
        while self.namespaces:
            os.close(self.namespaces.popitem()[1])
        self.processes.append(process)
        self.read_pid()

    def hang(self):
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def become_a_host(directory):
    """What there is beside libvirtd: a network whose devices /sys shows, and the socket where clients look for it."""
    groups = "/sys/fs/cgroup"
    if os.path.isdir(groups):
        os.mkdir(f"{directory}/cgroup")
        mount("--rbind", groups, f"{directory}/cgroup")
    mount("-t", "sysfs", "sysfs", "/sys")
    if os.path.isdir(groups):
        mount("--move", f"{directory}/cgroup", groups)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name in ("libvirt-sock", "libvirt-sock-ro"):
        os.symlink(f"{directory}/{name}", f"/run/libvirt/{name}")


def become_private(directory, network):
    """Makes the namespaces and turns this process into their libvirtd."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | (CLONE_NEWNET if network else 0)) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount("--make-rprivate", "/")
    for path in PRIVATE_DIRS:
        if os.path.isdir(path):
            mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", path)
    # virtlogd's socket is the host's business: QEMU's output goes to files.
    for name, text in (("qemu.conf", 'stdio_handler = "file"\n'),
                       ("libvirtd.conf", f'unix_sock_dir = "{directory}"\nauth_unix_rw = "none"\n')):
        with open(f"{directory}/{name}", "w", encoding="ascii") as file:
            file.write(text)
    mount("--bind", f"{directory}/qemu.conf", "/etc/libvirt/qemu.conf")
    if network:
        become_a_host(directory)
    command = libvirtd_command(directory)
    os.execv(command[0], command)


def libvirtd_command(directory):
    return [shutil.which("libvirtd") or "/usr/sbin/libvirtd", "-f", f"{directory}/libvirtd.conf", "-p", f"{directory}/pid"]


def main(arguments):
    if len(arguments) == 2 and arguments[0] in ("--become", "--become-host"):
        become_private(arguments[1], arguments[0] == "--become-host")
    elif arguments == ["--serve"]:
        with PrivateLibvirtd() as private:
            print(private.uri, private.pid, flush=True)
            for _ in sys.stdin:
                private.crash()
                private.restart()
                print(private.uri, private.pid, flush=True)
    elif len(arguments) > 1 and arguments[0] == "--run":
        ensure()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts background jobs with it ignored: tests send it
        sys.exit(subprocess.run(arguments[1:], check=False).returncode)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
