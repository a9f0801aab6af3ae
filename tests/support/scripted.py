"""A producer that answers what a test tells it to, and keeps what it was sent."""

import gzip
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ScriptedProducer:
    """`script` are answers, used up one a request: a status, (status, headers, body), or a function of the events."""

    def __init__(self, script=(), *, tls=None):
        self.script = list(script)
        self.requests = []
        self.connections = set()
        self.hold = threading.Event()
        self.hold.set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                owner.connections.add(self.client_address)
                owner.requests.append((self.path, dict(self.headers), json.loads(body), time.monotonic()))
                owner.hold.wait(20)
                status, headers, answer = owner.answer(json.loads(body))
                if status is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'' if tls is None else 's'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, events):
        step = self.script.pop(0) if self.script else 202
        if callable(step):
            step = step(events)
        status, headers, body = step if isinstance(step, tuple) else (step, {}, None)
        if body is None and status == 202:
            body = receipt(events) if isinstance(events, list) else {}
        return status, headers, body if isinstance(body, bytes) else json.dumps(body or {"detail": "scripted"}).encode()

    @property
    def taken(self):
        """The data of the events of each request."""
        return [[event["data"] for event in events] for _, _, events, _ in self.requests]


def receipt(events, invalid=()):
    """What a producer answers to `events`, those at the indexes `invalid` refused."""
    results = [
        {"status": "invalid", "error": "scripted"} if n in invalid else {"id": event["id"], "status": "accepted"}
        for n, event in enumerate(events)
    ]
    return {"accepted": len(events) - len(invalid), "duplicates": 0, "invalid": len(invalid), "events": results}
