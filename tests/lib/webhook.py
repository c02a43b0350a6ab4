# SPDX-License-Identifier: LGPL-2.1-or-later
"""A receiver of webhooks on loopback that behaves as it is told, and remembers what came."""
import http.server
import json
import ssl
import threading

GIB = 1 << 30


class Webhook:
    """A context manager. behave: what is done with each request: a status, or one of the words below; may be changed at any time.

    redirect: 302 to elsewhere; close: no answer; hang: none until release(); garbage: no HTTP; flood: 200 and 1 GiB of body; headers: 200 and
    headers without an end."""

    def __init__(self, behave=200, certificate=None):
        self.behave, self.requests, self.sent = behave, [], 0
        self.held, self.released = threading.Semaphore(0), threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), body))
                outer.answer(self)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.replace(".pem", ".key"))
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        self.server.handle_error = lambda *arguments: None
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}/in"

    @property
    def notices(self):
        return [json.loads(body) for _, _, body in self.requests]

    def kinds(self):
        return [one["kind"] for one in self.notices]

    def release(self):
        self.released.set()

    def answer(self, request):
        behave = self.behave
        request.close_connection = True
        if isinstance(behave, int):
            request.send_response(behave)
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif behave == "redirect":
            request.send_response(302)
            request.send_header("Location", self.url + "/elsewhere")
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif behave == "hang":
            self.held.release()
            self.released.wait()
        elif behave == "garbage":
            request.wfile.write(b"220 mail.example ESMTP\r\n" * 3)
        elif behave in ("flood", "headers"):
            self.flood(request, behave == "headers")

    def flood(self, request, headers):
        piece = b"X-Filler: " + b"y" * 1013 + b"\n"
        try:
            request.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"" if headers else f"Content-Length: {GIB}\r\n\r\n".encode()))
            while self.sent < GIB:
                request.wfile.write(piece * 64)
                self.sent += len(piece) * 64
        except OSError:
            pass
