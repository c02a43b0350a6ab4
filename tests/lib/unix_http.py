# SPDX-License-Identifier: LGPL-2.1-or-later
"""HTTP over a Unix socket, for tests: whole requests, and bytes as they are.

usage: unix_http.py SOCKET METHOD URL [BODY]    prints the answer's status and body; for requests of another user
"""
import http.client
import json
import socket
import subprocess
import sys


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = raw(self.path, self.timeout)


ERROR_KEYS = {"code", "message", "what", "cause", "now", "next"}


class Answer:
    def __init__(self, status, headers, body, asked=None):
        """asked: method and URL, to know what the answer must be like (K4)."""
        self.status, self.headers, self.body, self.asked = status, headers, body, asked

    @property
    def json(self):
        document = json.loads(self.body)
        if self.asked:
            from lib import schemas  # not at the top: another user runs this file alone
            schemas.check_answer(*self.asked, self.status, document)
        return document

    @property
    def error(self):
        """(code, message); the message has all that the parts say."""
        error = self.json["error"]
        parts = [error[key] for key in ("what", "cause", "now", "next") if key in error]
        assert set(self.json) == {"error"} and {"code", "message"} <= set(error) <= ERROR_KEYS, self.body
        assert all(part and part in error["message"] for part in parts), self.body
        return error["code"], error["message"]


def raw(path, timeout=30):
    """A connection that nothing was sent on."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)  # waits where the queue is full
    connection.settimeout(timeout)
    return connection


def request(path, method, url, body=None, headers=None, timeout=90):
    """body: bytes or text as it is, or anything else as JSON."""
    if body is not None and not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    connection = UnixConnection(path, timeout)
    try:
        try:
            connection.request(method, url, body, headers or {})
        except BrokenPipeError:
            pass  # it has answered already
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read().decode(), (method, url))
    finally:
        connection.close()


def request_as(user, groups, path, method, url, body=""):
    """As another user, in a process of its own. status 0: no connection, and body says why."""
    command = [sys.executable, "-I", "-", path, method, url, body]
    with open(__file__, encoding="utf-8") as source:
        done = subprocess.run(command, stdin=source, capture_output=True, text=True, user=user, group=user, extra_groups=groups,
                              cwd="/", timeout=90, check=True)
    status, rest = done.stdout.split("\n", 1)
    return Answer(int(status), {}, rest, (method, url))


def read_all(connection):
    """To the end of what the other side says. A connection that it cut says no more."""
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionError:
        pass
    return said


def main():
    try:
        answer = request(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] or None)
    except OSError as error:
        answer = Answer(0, {}, str(error))
    print(answer.status)
    print(answer.body, end="")


if __name__ == "__main__":
    main()
