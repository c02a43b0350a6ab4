# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5 and what K3 stands on: virt-reimaged as a service: its sockets and whom they are for, its words to the service manager, its end, its size."""
import concurrent.futures
import ctypes
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
import time

import pytest

from lib import unix_http
from program import BINARY, FAILED, OWNED, REFUSED, USAGE
from test_daemon import NOBODY, Served, begin, fixture_serve, wait_end, wait_for  # noqa: F401
from test_daemon_peers import SPARING, figure

DAEMON = BINARY + "d"
GROUP = 54321  # of nobody on this host


def run(*arguments, **options):
    return subprocess.run([DAEMON, *arguments], capture_output=True, text=True, timeout=20, check=False, **options)


# ---- the command line ----


def test_its_own_words():
    assert run("--version").stdout.startswith("virt-reimaged ")
    shown = run("--help")
    assert shown.returncode == 0
    for option in ("--connect", "--root", "--config", "--socket-dir", "--debug", "--version"):
        assert option in shown.stdout
    for wrong in (["extra"], ["--nothing"], ["--root"]):
        done = run(*wrong)
        assert done.returncode == USAGE and done.stderr.startswith("error: ") and "--help" in done.stderr


def test_a_configuration_that_cannot_be_used(tmp_path):
    conf = tmp_path / "conf"
    conf.write_text("[daemon]\nmaxCommand=3\n")
    done = run("--config", str(conf), "--socket-dir", str(tmp_path / "s"))
    assert done.returncode == USAGE and "maxCommand" in done.stderr
    conf.chmod(0o666)
    assert run("--config", str(conf), "--socket-dir", str(tmp_path / "s")).returncode == REFUSED
    assert run("--config", str(tmp_path / "none"), "--socket-dir", str(tmp_path / "s")).returncode != 0
    assert not (tmp_path / "s").exists()


def test_what_it_is_linked_with():
    """A small supervisor: no libvirt, no database, no appliance."""
    libraries = subprocess.run(["ldd", DAEMON], capture_output=True, text=True, check=True).stdout
    assert "libmicrohttpd" in libraries
    for none in ("libvirt", "libsqlite3", "libguestfs", "libcurl", "liburing", "libxml2"):
        assert none not in libraries, none


# ---- its sockets ----


def test_its_sockets_are_made_and_go(program, serve):
    served = serve(program)
    assert stat.S_IMODE(os.stat(served.rw).st_mode) == 0o660 and stat.S_IMODE(os.stat(served.ro).st_mode) == 0o666
    other = run("--socket-dir", served.daemon.dir, "--root", program.root)
    assert other.returncode == OWNED and f"pid {served.daemon.process.pid}" in other.stderr
    served.get("/")  # whose sockets the other one left alone
    assert served.daemon.stop() == 0
    assert not os.path.exists(served.rw) and not os.path.exists(served.ro)


def test_sockets_of_one_that_was_killed_are_replaced(program, serve):
    served = serve(program)
    served.daemon.kill()
    assert os.path.exists(served.rw)
    with pytest.raises(ConnectionRefusedError):
        unix_http.raw(served.rw)
    served.daemon.start()
    served.get("/")


def test_a_directory_that_others_may_write_is_refused(program, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    done = run("--socket-dir", str(shared), "--root", program.root)
    assert done.returncode == REFUSED and not list(shared.iterdir())


class Activated:
    """virt-reimaged with sockets that the service manager gives: rw has a group, and a mode that lets in more than should be."""

    def __init__(self, work, program, names="rw:ro"):
        self.rw, self.ro = os.path.join(work, "rw"), os.path.join(work, "ro")
        listening = [self.listen(self.rw), self.listen(self.ro)]
        os.chown(self.rw, -1, GROUP)
        script = 'exec 3<&$1 4<&$2; shift 2; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=$1 exec "${@:2}"'
        self.process = subprocess.Popen(["bash", "-c", script, "-", *(str(one.fileno()) for one in listening), names, DAEMON, "--root",
                                         program.root], pass_fds=[one.fileno() for one in listening], stderr=subprocess.PIPE, text=True)
        for one in listening:
            one.close()

    @staticmethod
    def listen(path):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind(path)
        os.chmod(path, 0o666)
        made.listen(100)
        return made

    def stop(self):
        self.process.terminate()
        said = self.process.communicate(timeout=30)[1]
        assert "Sanitizer" not in said, said
        return self.process.returncode, said


def test_sockets_of_the_service_manager(work, program):
    """SAFETY 32: who is in the group of the socket is let in, whoever else could connect is not; and its files are not ours to remove."""
    activated = Activated(work, program)
    try:
        assert unix_http.request(activated.rw, "GET", "/").status == 200
        assert unix_http.request_as(NOBODY, [], activated.ro, "GET", "/").status == 200
        refused = unix_http.request_as(NOBODY, [], activated.rw, "GET", "/")
        assert refused.status == 403 and refused.error[0] == "Forbidden"
        assert unix_http.request_as(NOBODY, [0], activated.rw, "GET", "/").status == 403  # root's group is not root
        assert unix_http.request_as(NOBODY, [GROUP], activated.rw, "GET", "/").status == 200
        assert unix_http.request_as(NOBODY, [GROUP], activated.rw, "POST", "/virtualMachineScaleSets/x/retry").status == 404
    finally:
        status, said = activated.stop()
    assert status == 0, said
    assert os.path.exists(activated.rw) and os.path.exists(activated.ro)


def test_sockets_of_the_service_manager_are_not_taken_away(work, program):
    """It holds no lock that another daemon could see; and a connection of who looks does no harm."""
    activated = Activated(work, program)
    try:
        place = os.path.join(work, "sockets")
        os.mkdir(place)
        names = [os.path.join(place, name) for name in ("virt-reimage.sock", "virt-reimage-ro.sock")]
        for path, name in zip((activated.rw, activated.ro), names):
            os.link(path, name)
        other = run("--socket-dir", place, "--root", program.root)
        assert other.returncode == OWNED and "somebody listens on" in other.stderr and "systemctl status" in other.stderr
        assert all(os.path.samefile(path, name) for path, name in zip((activated.rw, activated.ro), names))
        assert unix_http.request(activated.rw, "GET", "/").status == 200
    finally:
        status, said = activated.stop()
    assert status == 0, said


def test_sockets_of_the_service_manager_have_names(work, program):
    activated = Activated(work, program, "rw:what")
    activated.process.wait(20)
    status, said = activated.stop()
    assert status == USAGE and "FileDescriptorName" in said


# ---- what the service manager hears ----


class Manager:
    """The other end of NOTIFY_SOCKET, which always listens: who speaks to one that does not waits for it."""

    def __init__(self, work):
        self.path = os.path.join(work, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.heard = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while said := self.socket.recv(4096):
            self.heard += said.decode().splitlines()

    def listen(self, seconds):
        """The lines that come in that time."""
        before = len(self.heard)
        time.sleep(seconds)
        return self.heard[before:]

    def wait(self, line, seconds=20):
        until = time.monotonic() + seconds
        while line not in self.heard:
            assert time.monotonic() < until, self.heard
            time.sleep(0.05)


@pytest.fixture(name="manager")
def fixture_manager(work):
    return Manager(work)


def ptrace(request, pid):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    assert libc.ptrace(request, pid, None, None) == 0, os.strerror(ctypes.get_errno())


SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17


def test_the_watchdog_is_fed_by_the_main_loop(program, manager, serve):
    """A loop that hangs is killed by the manager: its thread alone is held here, while the process's others run."""
    served = serve(program, environment={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "900000"})
    manager.wait("READY=1")
    assert manager.listen(2).count("WATCHDOG=1") >= 4
    pid = served.daemon.process.pid
    assert len(os.listdir(f"/proc/{pid}/task")) > 1
    ptrace(SEIZE, pid)
    ptrace(INTERRUPT, pid)
    os.waitpid(pid, 0x40000000)  # __WALL: it is held
    manager.listen(0.2)  # what was under way
    assert manager.listen(2) == []
    ptrace(DETACH, pid)
    assert "WATCHDOG=1" in manager.listen(2)
    served.get("/")


def test_what_it_says_of_itself(program, manager, serve):
    served = serve(program, environment={"NOTIFY_SOCKET": manager.path})
    manager.wait("READY=1")
    manager.wait(f"STATUS=serving {program.root}")
    served.daemon.process.terminate()
    manager.wait("STOPPING=1")
    assert served.daemon.process.wait(20) == 0
    assert "WATCHDOG=1" not in manager.heard  # nobody asked for it
    assert [line for line in manager.heard if line.startswith("EXTEND_TIMEOUT_USEC=")]


# ---- its end ----


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "service", batch=50, upgrade_domains=2, policy="    pauseTimeBetweenBatches: PT2S\n")


def test_a_stop_comes_to_the_batch_border_and_the_next_start_goes_on(lab, serve, manager):
    """SAFETY 27; nothing new is begun meanwhile, and the manager is asked for time."""
    served = serve(lab.program, environment={"NOTIFY_SOCKET": manager.path})
    served.set = f"/virtualMachineScaleSets/{lab.set_name}"
    begin(served, "osRollingUpgrade", {"version": "2.0.0"})
    wait_for(served, lambda status: status["progress"]["inProgressInstanceCount"] == 1)
    served.daemon.process.terminate()
    deadline = time.monotonic() + 10
    while not served.get("/").json["stopping"]:
        assert time.monotonic() < deadline
    served.fails(503, "Stopping", "POST", f"{served.set}/reimage", {"instanceIds": ["*"]})
    served.fails(503, "Stopping", "GET", served.set)
    assert served.daemon.process.wait(200) == 0
    said = [line for line in manager.heard if line.startswith("STATUS=stopping: ")]
    assert said and all(one != next_one for one, next_one in zip(said, said[1:])), said  # what is new, and not each second
    assert "EXTEND_TIMEOUT_USEC=15000000" in manager.heard
    status = lab.status()
    assert status["openRun"] and status["lockHolder"] is None and status["progress"]["inProgressInstanceCount"] == 0
    assert status["progress"]["successfulInstanceCount"] == 1
    served.daemon.start()
    wait_end(served, lab)
    assert lab.versions() == lab.all_on("2.0.0")


def test_a_second_signal_ends_it_at_once(lab, serve):
    """... and what it had begun goes on by itself."""
    served = serve(lab.program)
    served.set = f"/virtualMachineScaleSets/{lab.set_name}"
    begin(served, "osRollingUpgrade", {"version": "3.0.0"})
    wait_for(served, lambda status: status["progress"]["inProgressInstanceCount"] == 1)
    served.daemon.process.terminate()
    deadline = time.monotonic() + 10
    while not served.get("/").json["stopping"]:
        assert time.monotonic() < deadline
    began = time.monotonic()
    assert served.daemon.kill(signal.SIGTERM) == FAILED and time.monotonic() - began < 3
    assert "second signal" in served.daemon.said()
    deadline = time.monotonic() + 90
    while lab.status()["lockHolder"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    served.daemon.start()
    wait_end(served, lab)
    assert lab.versions() == lab.all_on("3.0.0")


def test_a_run_is_in_the_name_of_its_peer(work, lab):
    """J4: of a member of the socket's group, who is not root."""
    activated = Activated(work, lab.program)
    try:
        body = json.dumps({"instanceIds": lab.names[:1], "reason": "mine"})
        answer = unix_http.request_as(NOBODY, [GROUP], activated.rw, "POST", f"/virtualMachineScaleSets/{lab.set_name}/reimage", body)
        assert answer.status == 202, answer.body
        deadline = time.monotonic() + 90
        while lab.status()["lockHolder"]:
            assert time.monotonic() < deadline
            time.sleep(0.3)
    finally:
        status, said = activated.stop()
    assert status == 0, said
    run = lab.program.json("history", lab.set_name)["runs"][0]
    assert run["reason"] == "mine" and run["userName"] == "nobody", run


# ---- its size ----


def many_instances(program, count):
    """Of the set 'many': rows as set-define would write them, of domains that libvirt does not have."""
    names = [f"many-{i:04}" for i in range(count)]
    text = program.model("many", names)
    database = sqlite3.connect(os.path.join(program.root, "state.db"))
    database.execute("INSERT INTO sets (name, text, defined_us) VALUES ('many', ?, 1)", [text])
    database.executemany("INSERT INTO instances (uuid, set_name, domain, ordinal, upgrade_domain) VALUES (?, 'many', ?, ?, 0)",
                         [(f"00000000-0000-4000-8000-{i:012}", name, i) for i, name in enumerate(names)])
    database.commit()
    database.close()


def test_its_memory_is_bounded_at_1000_instances(published, serve):
    """DESIGN: 64 MiB. What jobs say does not pass through the daemon."""
    many_instances(published, 1000)
    served = serve(published, environment=SPARING)
    urls = ["/virtualMachineScaleSets/many", "/virtualMachineScaleSets/many/instanceView", "/virtualMachineScaleSets", "/images"]
    sizes = [len(served.get(url, timeout=300).body) for url in urls]
    assert max(sizes) > 100_000, sizes

    def ask(i):
        answer = unix_http.request(served.rw if i % 2 else served.ro, "GET", urls[i % len(urls)], timeout=300)
        return answer.status, len(answer.body)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(24)))
    assert {status for status, length in answers} == {200}
    assert [length for status, length in answers][:4] == sizes
    assert figure(served, "VmHWM") < 64 * 1024, figure(served, "VmHWM")
