"""The origins of the parity check, in plain Python: they tell what reached them. Under load `blast` takes their place."""

import http.server
import itertools
import json
import threading

LARGE = b"x" * 65_536
SMALL = b"y" * 99 + b"\n"
CONNECTIONS = itertools.count()


class Answer(http.server.BaseHTTPRequestHandler):
    """One connection to an origin."""

    protocol_version = "HTTP/1.1"
    # The header and the body go out one by one; neither is to wait for the other.
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.number = next(CONNECTIONS)

    def do_GET(self):
        body, kind = SMALL, "text/plain"
        if "/large" in self.path:
            body = LARGE
        elif "/echo" in self.path:
            told = {"method": self.command, "path": self.path, "origin": self.server.name, "connection": self.number}
            body, kind = json.dumps({**told, "headers": self.headers.items()}).encode(), "application/json"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Origin", self.server.name)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """A gateway that ends cuts its connections; that is nobody's fault."""


def start(origins):
    """Starts an origin for every name and port; they end with the process, or by `stop`."""
    servers = []
    for name, port in origins.items():
        server = Server(("127.0.0.1", port), Answer)
        server.name = name
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
    return servers


def stop(servers):
    for server in servers:
        server.shutdown()
        server.server_close()
