#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a model may name outside: servers with good and bad certificates, which behave as health_server.py's do, and two ways more.

usage: outside_server.py DIRECTORY

Makes certificates in DIRECTORY (ca.pem signs them) and listens on 127.0.0.1. Prints its ports on one line: http, then https for each
of CERTIFICATES in their order. Each request line is appended to DIRECTORY/requests. It ends when its standard input does.
"""
import os
import socket
import ssl
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lib.certificates import DAY, MINUTE, Authority  # noqa: E402
from health_server import BEHAVIOURS, read_request, reply  # noqa: E402

CERTIFICATES = {"good": {}, "expired": {"begins": -2 * DAY, "ends": -DAY}, "early": {"begins": DAY, "ends": 2 * DAY},
                "soon": {"ends": 10 * MINUTE}, "other": {"names": "DNS:other.example"}, "chain": {"issuer": "between"}}


def answer(client, request):
    method, path, _ = request.split("\r\n", 1)[0].split(" ")
    name, _, argument = path[1:].partition("?")
    if name == "secret":
        reply(client, 204 if "\r\nAuthorization: Bearer s3cret\r\n" in request else 403)
    elif name == "only":
        reply(client, 200 if argument == method else 405)
    else:
        BEHAVIOURS[name](client, argument)


def serve(client, context, log):
    try:
        client.settimeout(600)
        if context:
            client = context.wrap_socket(client, server_side=True)
        request = read_request(client)
        if request:
            os.write(log, request.split("\r\n", 1)[0].encode() + b"\n")
            answer(client, request)
    except (OSError, ValueError):
        pass
    finally:
        client.close()


def listen(log, context=None):
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    def accept_all():
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, context, log), daemon=True).start()

    threading.Thread(target=accept_all, daemon=True).start()
    return listener.getsockname()[1]


def tls_context(authority, name, begins=-DAY, ends=2 * DAY, **options):
    path = authority.issue(name, begins, ends, **options)
    if "issuer" in options:
        with open(path, "a", encoding="ascii") as chain, open(authority.path(f"{options['issuer']}.pem"), encoding="ascii") as more:
            chain.write(more.read())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, authority.path(f"{name}.key"))
    return context


def main():
    authority = Authority(sys.argv[1])
    authority.issue("between", -DAY, 20 * MINUTE, authority=True)
    log = os.open(authority.path("requests"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    ports = [listen(log)] + [listen(log, tls_context(authority, name, **options)) for name, options in CERTIFICATES.items()]
    print(*ports, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
