# SPDX-License-Identifier: LGPL-2.1-or-later
"""The applications of guests as a health probe sees them, on this host behind the guests' addresses."""
import http.server
import json
import threading


class Application:
    """Answers for one guest at a port of its own: how it is, and what it asks of a run."""

    def __init__(self):
        application = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = application.answer()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.wishes = {}
        self.is_healthy = lambda: True
        self.when_asked = lambda: None
        self.asked = 0  # how often
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def answer(self):
        self.asked += 1
        self.when_asked()
        state = "Healthy" if self.is_healthy() else "Unhealthy"
        metrics = json.dumps({"rollingUpgrade": self.wishes})
        return json.dumps({"ApplicationHealthState": state, "customMetrics": metrics}).encode()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Applications(list):
    """One for each guest of a set; a context manager that leaves nothing behind."""

    def __init__(self, count):
        super().__init__(Application() for _ in range(count))

    def model(self, names):
        """What a set's model says of them, as options of Program.model()."""
        labels = {name: f'address: "127.0.0.1:{application.server.server_port}"' for name, application in zip(names, self)}
        return {"health": "applicationHealth: {protocol: http, requestPath: /health}, ", "labels": labels}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for application in self:
            application.stop()
        return False
