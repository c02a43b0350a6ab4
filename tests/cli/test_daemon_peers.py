# SPDX-License-Identifier: LGPL-2.1-or-later
"""K3, SAFETY 30, 32: peers of virt-reimaged that do not do as they should, while a run that a good one has begun goes on and does not notice."""
import json
import os
import socket
import threading
import time

import pytest

from lib import unix_http
from lib.unix_http import raw, read_all
from test_daemon import NOBODY, Served, begin, fixture_serve  # noqa: F401

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
RSS_MAX_KIB = 64 * 1024
# Of what is freed ASan would keep 256 MiB, which is not the daemon's.
SPARING = {"ASAN_OPTIONS": ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=1"]))}


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "peers", batch=50, upgrade_domains=2)


@pytest.fixture(name="served")
def fixture_served(lab, serve):
    served = serve(lab.program, environment=SPARING)
    served.set = f"/virtualMachineScaleSets/{lab.set_name}"
    return served


def figure(served, name):
    with open(f"/proc/{served.daemon.process.pid}/status", encoding="ascii") as file:
        return int(file.read().split(f"{name}:")[1].split()[0])


def cpu_seconds(served):
    with open(f"/proc/{served.daemon.process.pid}/stat", encoding="ascii") as file:
        return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def open_files(served):
    return len(os.listdir(f"/proc/{served.daemon.process.pid}/fd"))


def answers_at_once(served, path=None):
    began = time.monotonic()
    assert served.get("/", socket=path or served.rw).json["program"] == "virt-reimaged"
    assert time.monotonic() - began < 5, "somebody else is waited for"


def comes_to_rest(served, files):
    """What bad peers took is given back."""
    deadline = time.monotonic() + 20
    while open_files(served) > files:
        assert time.monotonic() < deadline, os.listdir(f"/proc/{served.daemon.process.pid}/fd")
        time.sleep(0.1)
    answers_at_once(served)


# ---- each kind of bad peer: a function over the path of a socket ----


def one_byte_at_a_time(path, seconds=3):
    connection = raw(path)
    try:
        for byte in GET * 100:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
            seconds -= 0.05
            if seconds < 0:
                break
    except OSError:
        pass
    connection.close()


def says_nothing(path):
    connection = raw(path)
    time.sleep(3)
    connection.close()


def goes_in_the_middle(path):
    for part in (b"G", b"GET / HTTP/1.1\r\n", b"PUT /virtualMachineScaleSets/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
                 b"POST /commands HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: virt-reimage-command\r\n\r\n"):
        connection = raw(path)
        connection.sendall(part)
        connection.close()


def goes_before_its_answer(path):
    for _ in range(5):
        connection = raw(path)
        connection.sendall(b"GET /images HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.05)
        connection.close()


def does_not_read_its_answer(path):
    connection = raw(path)
    try:
        connection.settimeout(1)
        connection.sendall(GET * 3000)  # pipelined: their answers are more than the socket holds
    except OSError:
        pass
    time.sleep(2)
    connection.close()


def talks_garbage(path):
    for garbage in (os.urandom(4096), b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
                    b"GET /%zz%00?%=%&=& HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"):
        connection = raw(path, 1)
        try:
            connection.sendall(garbage)
            read_all(connection)
        except OSError:
            pass
        connection.close()


def long_headers(path):
    for headers in (b"X: " + b"x" * 1_000_000, b"X: y\r\n" * 100_000, b"GET /" + b"x" * 1_000_000):
        connection = raw(path, 2)
        try:
            connection.sendall((b"" if headers.startswith(b"GET") else b"GET / HTTP/1.1\r\n") + headers)
            read_all(connection)
        except OSError:
            pass
        connection.close()


def body_of_100_mib(path):
    """With its length said, and in chunks."""
    for head in (b"Content-Length: 104857600\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
        connection = raw(path, 5)
        try:
            connection.sendall(b"PUT /virtualMachineScaleSets/x HTTP/1.1\r\nHost: x\r\n" + head)
            for _ in range(1600):
                piece = b"[" * 65536
                connection.sendall(piece if head.startswith(b"C") else b"10000\r\n" + piece + b"\r\n")
        except OSError:
            pass
        connection.close()


def deep_json(path):
    for body in (b"[" * 500_000, b'{"a":' * 200_000, b'{"x":"' + b"\\" * 500_000):
        unix_http.request(path, "POST", "/virtualMachineScaleSets/x/retry", body)


def a_thousand_connections(path):
    """Each is refused or let in, and none is waited for."""
    held, refused = [], 0
    try:
        for _ in range(1000):
            connection = raw(path, 5)
            connection.setblocking(False)
            try:
                refused += connection.recv(4096).startswith(b"HTTP/1.1 503 ")
            except BlockingIOError:
                pass
            held.append(connection)
        time.sleep(0.5)
        for connection in held:
            try:
                refused += connection.recv(4096).startswith(b"HTTP/1.1 503 ")
            except OSError:
                pass
    except OSError:
        pass
    for connection in held:
        connection.close()
    return refused


KINDS = [one_byte_at_a_time, says_nothing, goes_in_the_middle, goes_before_its_answer, does_not_read_its_answer, talks_garbage, long_headers,
         body_of_100_mib, deep_json, a_thousand_connections]


def test_a_run_does_not_notice_bad_peers(served, lab):
    """All kinds at once on both sockets, over and over, from before the first batch until the run has ended."""
    begin(served, "osRollingUpgrade", {"version": "2.0.0"})
    before = open_files(served)
    over, failures = threading.Event(), []

    def misbehave(kind, path):
        while not over.is_set():
            try:
                kind(path)
            except OSError:
                pass  # too many connections are the daemon's to refuse
            except Exception as failure:  # pylint: disable=broad-except
                failures.append((kind.__name__, failure))
                return

    threads = [threading.Thread(target=misbehave, args=(kind, path)) for kind in KINDS if kind is not a_thousand_connections
               for path in (served.rw, served.ro)]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 150
        while True:
            status = lab.status()  # by itself, not through the daemon, which is busy
            if status["openRun"] is None and status["lockHolder"] is None:
                break
            assert time.monotonic() < deadline, status
            time.sleep(0.5)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert status["runningStatus"]["code"] == "Completed", json.dumps(status)
    assert lab.versions() == lab.all_on("2.0.0")
    comes_to_rest(served, before)
    assert figure(served, "VmHWM") < RSS_MAX_KIB, figure(served, "VmHWM")
    assert served.daemon.stop() == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_others_are_served_beside(served, kind):
    before = open_files(served)
    thread = threading.Thread(target=kind, args=(served.ro,))
    thread.start()
    for _ in range(5):
        answers_at_once(served)
        time.sleep(0.05)
    thread.join()
    comes_to_rest(served, before)
    assert figure(served, "VmHWM") < RSS_MAX_KIB


def test_who_sends_slowly_or_nothing_is_cut(served):
    """10 s of silence; 30 s for a whole request, however often a byte comes."""
    silent, slow = raw(served.ro, 60), raw(served.ro, 60)
    began = time.monotonic()

    def trickle():
        try:
            while True:
                slow.sendall(b"G")
                time.sleep(1)
        except OSError:
            pass

    thread = threading.Thread(target=trickle)
    thread.start()
    read_all(silent)
    assert 5 < time.monotonic() - began < 20
    read_all(slow)
    assert 20 < time.monotonic() - began < 45
    thread.join()


def test_a_body_is_taken_up_to_1_mib(served):
    url = "/virtualMachineScaleSets/x/retry"
    whole = b'{"reason": "x"}'.ljust(1024 * 1024)
    assert len(whole) == 1024 * 1024
    assert unix_http.request(served.rw, "POST", url, whole).status == 404
    too_large = unix_http.request(served.rw, "POST", url, whole + b" ")
    assert too_large.status == 413 and too_large.error[0] == "TooLarge"

    def pieces():
        for _ in range(20):
            yield b" " * 65536

    chunked = unix_http.UnixConnection(served.rw, 30)
    chunked.request("POST", url, pieces(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert chunked.getresponse().status == 413


def test_a_body_is_taken_32_levels_deep(served):
    url = "/virtualMachineScaleSets/x/retry"
    for depth, code in ((31, "Usage"), (32, "Usage"), (33, "Usage"), (100000, "Usage")):
        answer = unix_http.request(served.rw, "POST", url, b'{"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}")
        assert answer.status == 400 and answer.error[0] == code
        assert ("deep" in answer.error[1]) == (depth > 32), answer.body


def test_pipelined_requests_are_answered_in_their_order(served):
    connection = raw(served.rw)
    wanted = ["/", "/nothing", "/images", "/", "/images/nothing/versions"]
    connection.sendall(b"".join(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for url in wanted[:-1]))
    connection.sendall(f"GET {wanted[-1]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    said = read_all(connection)
    statuses = [int(part.split(b" ", 1)[0]) for part in said.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 200, 200, 404], said


def test_one_user_cannot_take_all_connections(served):
    """32 of a user, and more for root."""
    held = [raw(served.ro) for _ in range(200)]
    time.sleep(0.5)
    open_ones = 0
    for connection in held:
        connection.setblocking(False)
        try:
            assert connection.recv(4096).startswith(b"HTTP/1.1 503 ")
        except BlockingIOError:
            open_ones += 1
    assert open_ones == 40  # root's: 32 and its reserve
    assert unix_http.request_as(NOBODY, [], served.ro, "GET", "/").status == 200
    answers_at_once(served)  # the other socket has its own
    for connection in held:
        connection.close()
    answers_at_once(served, served.ro)


def test_a_full_table_of_descriptors(lab):
    """Nothing spins, nothing dies; what needs a descriptor says so, and goes again when there are some."""
    served = Served(lab.program)
    served.daemon.command = ["prlimit", "--nofile=40:40", *served.daemon.command]
    try:
        served.daemon.start()
        held = [raw(served.rw) for _ in range(50)]
        time.sleep(0.5)
        assert open_files(served) >= 39
        began = cpu_seconds(served)
        time.sleep(3)
        assert cpu_seconds(served) - began < 0.5, "it spins"
        for connection in held[:12]:
            connection.close()
        time.sleep(1)
        for connection in held[12:14]:  # those that are let in have few descriptors for their jobs
            connection.sendall(b"GET /images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_all(connection)[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 500", b"HTTP/1.1 503")
        for connection in held[12:]:
            connection.close()
        time.sleep(0.5)
        served.get("/images")
        assert served.daemon.stop() == 0
    finally:
        served.daemon.clean_up()


def test_jobs_of_peers_that_are_gone_end(served):
    """A reading command whose peer has died is not kept, and its end breaks nothing."""
    for _ in range(30):
        connection = raw(served.rw)
        connection.sendall(f"GET {served.set}/instanceView HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.02)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    deadline = time.monotonic() + 60
    while served.get("/").json["jobs"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
