#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Applications as a health probe may meet them, good and bad.

usage: health_server.py DIRECTORY [ADDRESS]

Listens on three ports of ADDRESS (127.0.0.1) and prints them on one line: http, https, and one that accepts connections and
never says a word.  The certificate DIRECTORY/ca.pem is its own authority; it names shop.example and no address.
The first word of the path says how it behaves; what follows a '?' is an argument.  It ends when its standard input does.
"""
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

HEALTHY = b'{"ApplicationHealthState": "Healthy", "customMetrics": "{\\"rollingUpgrade\\": {\\"PhaseOrderingNumber\\": 3}}"}'
UNHEALTHY = b'{"ApplicationHealthState": "Unhealthy", "customMetrics": {"rollingUpgrade": {"SkipUpgrade": true}}}'
LOCK = threading.Lock()
SEEN = {}


def reply(client, status, body=b"", headers=""):
    client.sendall(f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def times_asked(key):
    with LOCK:
        SEEN[key] = SEEN.get(key, 0) + 1
        return SEEN[key]


def hang(client, _):
    client.settimeout(600)
    client.recv(1)  # nothing comes: until the client gives up


def drip(client, _):
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
    while True:
        client.sendall(b" ")
        time.sleep(0.05)


def drip_headers(client, _):
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"X: y\r\n")
        time.sleep(0.05)


def endless(client, _):
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        client.sendall(b" " * 65536)


def endless_chunks(client, _):
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        client.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")


def endless_headers(client, _):
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"X-Long: " + b"y" * 4096 + b"\r\n")


def endless_interim(client, _):
    while True:
        client.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 64)


def huge(client, _):
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n")
    hang(client, _)


def cut(client, _):
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Appl")


def flap(client, argument):
    """Healthy from the Nth time that it is asked, 503 before."""
    name, _, number = argument.partition(",")
    if times_asked(name) >= int(number):
        reply(client, 200, HEALTHY)
    else:
        reply(client, 503)


def after(client, argument):
    """Hangs the first time, is healthy from then on: a question that got lost while the guest booted."""
    if times_asked(argument) == 1:
        hang(client, argument)
    reply(client, 200, HEALTHY)


def redirect(client, argument):
    reply(client, 302, HEALTHY, f"Location: {argument}\r\n")


BEHAVIOURS = {
    "healthy": lambda client, _: reply(client, 200, HEALTHY),
    "unhealthy": lambda client, _: reply(client, 200, UNHEALTHY),
    "plain": lambda client, _: reply(client, 200, b"ok\n"),
    "empty": lambda client, _: reply(client, 204),
    "a/../plain": lambda client, _: reply(client, 200, b"as it is\n"),
    "odd": lambda client, _: reply(client, 200, b'{"ApplicationHealthState": "Super"}'),
    "full": lambda client, _: reply(client, 200, HEALTHY.ljust(64 * 1024)),
    "over": lambda client, _: reply(client, 200, HEALTHY.ljust(64 * 1024 + 1)),
    "status": lambda client, argument: reply(client, argument, HEALTHY),
    "close": lambda client, _: None,
    "garbage": lambda client, _: client.sendall(b"\x15\x03\x03\x00\x02 220 not http at all\r\n"),
    "old": lambda client, _: client.sendall(HEALTHY),
    "hang": hang, "drip": drip, "drip-headers": drip_headers, "endless": endless, "endless-chunks": endless_chunks,
    "endless-headers": endless_headers, "endless-interim": endless_interim, "huge": huge, "cut": cut, "flap": flap,
    "after": after, "redirect": redirect,
}


def read_request(client):
    """Its lines, or None."""
    request = b""
    while b"\r\n\r\n" not in request:
        part = client.recv(4096)
        if not part:
            return None
        request += part
        if request[:1] == b"\x16":  # a TLS hello on the plain port
            reply(client, 400)
            return None
    return request.decode()


def serve(client, context):
    try:
        client.settimeout(600)
        if context:
            client = context.wrap_socket(client, server_side=True)
        request = read_request(client)
        if request:
            name, _, argument = request.split(" ")[1][1:].partition("?")
            BEHAVIOURS[name](client, argument)
    except (OSError, ValueError):
        pass
    finally:
        client.close()


def listen(address, context=None, silent=False):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family, backlog=512, dualstack_ipv6=":" in address)
    kept = []

    def accept_all():
        while True:
            client, _ = listener.accept()
            if silent:
                kept.append(client)
            else:
                threading.Thread(target=serve, args=(client, context), daemon=True).start()

    threading.Thread(target=accept_all, daemon=True).start()
    return listener.getsockname()[1]


def tls_context(directory):
    key, certificate = directory / "key.pem", directory / "ca.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "2", "-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example", "-keyout", key, "-out",
                    certificate], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def main():
    directory, address = Path(sys.argv[1]), (sys.argv + ["127.0.0.1"])[2]
    print(listen(address), listen(address, tls_context(directory)), listen(address, silent=True), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
