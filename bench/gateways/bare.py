"""A bare Pingora: what the library costs that Tollgate is built on. It proxies, and does nothing else.

Built from bench/bare, or the binary that BARE names.
"""

import os
import pathlib
import signal

from gateway import BESIDES, PLAIN, ROOT, TLS, Gateway, run


class Bare(Gateway):
    name = "bare"
    workloads = frozenset((*PLAIN, *TLS))
    excused = {
        "request-id": "it sets no header",
        "forwarded-for": "it sets no header",
    }
    departures = ["sets no header: a floor, not a gateway"]
    stop_signal = signal.SIGINT
    countable = True

    def __init__(self):
        self.binary = pathlib.Path(os.environ.get("BARE") or BESIDES / "release" / "bare").resolve()

    def install(self):
        if "BARE" not in os.environ:
            build = ["cargo", "build", "--locked", "--release", "--quiet", "--features", "boringssl"]
            run(*build, cwd=ROOT / "bench" / "bare", env={**os.environ, "CARGO_TARGET_DIR": str(BESIDES)})
        lock = (ROOT / "bench" / "bare" / "Cargo.lock").read_text()
        return "pingora " + lock.partition('name = "pingora"\nversion = "')[2].partition('"')[0]

    def configure(self, cell):
        """All by its environment."""

    def command(self, cell):
        return [self.binary]

    def env(self, cell):
        listen = f"127.0.0.1:{cell.port}"
        tls = cell.workload in TLS
        return {
            "BARE_LISTEN": "" if tls else listen,
            "BARE_TLS_LISTEN": listen if tls else "",
            "BARE_UPSTREAM": f"127.0.0.1:{cell.origins['v1']}",
            "BARE_CERT": cell.cert,
            "BARE_KEY": cell.key,
            "BARE_H2": "1" if cell.workload == "h2" else "0",
            "BARE_THREADS": cell.workers,
        }
