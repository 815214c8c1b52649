"""`blast`, the origin and the load: building it, starting it on its core, and reading along."""

import json
import os
import subprocess
import threading

import gateway
import materials
import process

CONNECTIONS = 64
# Requests of API keys and tokens, taken in turn.
REFUSED_KEYS = 100
# Tokens that must not repeat: more a second than any gateway verifies on one core, for as long as they are asked for.
FRESH_RATE, FRESH_SECONDS = 20_000, 4
HEAD = "Host: bench.test\r\nUser-Agent: blast\r\nAccept: */*\r\n"


class Blast:
    """The binary, or the one that BLAST names, and the request files it is given in a run."""

    def __init__(self):
        self.binary = os.path.realpath(os.environ.get("BLAST") or gateway.BESIDES / "release" / "blast")
        if "BLAST" not in os.environ:
            env = {**os.environ, "CARGO_TARGET_DIR": str(gateway.BESIDES)}
            build = ["cargo", "build", "--locked", "--release", "--quiet"]
            gateway.run(*build, cwd=gateway.ROOT / "bench" / "blast", env=env)

    def mint(self, shared, algorithm, count):
        """Tokens that are like no others."""
        key = shared / ("hs256.secret" if algorithm == "HS256" else f"{algorithm.lower()}.pem")
        argv = [*process.pinned(), self.binary, "mint", "--alg", algorithm, "--key", key, "--kid", gateway.KIDS[algorithm]]
        argv += ["--issuer", gateway.ISSUER, "--audience", gateway.AUDIENCE]
        return gateway.run(*argv, "--subjects", materials.SUBJECTS, "--count", count).split()

    def requests(self, shared, workload, seconds):
        """The file of requests for a workload, made once."""
        file = shared / f"{workload}.requests"
        if not file.exists():
            tokens = []
            if workload in gateway.JWT:
                count = int(FRESH_RATE * seconds) if workload == "fresh" else materials.SUBJECTS
                tokens = self.mint(shared, gateway.ALGORITHMS[workload], count)
            with open(file, "w") as out:
                out.writelines(prepared(shared, workload, tokens))
        return file

    def load(self, cell, requests, *options, origins=True):
        """Starts a load that waits for `go` while it is the origin already."""
        argv = [self.binary, "load", "--wait", "--to", f"127.0.0.1:{cell.port}", "--requests", requests, *options]
        return Running([*argv, *listens("--origin", cell.origins if origins else {})])

    def hold(self, cell, requests, connections, *options):
        """Starts to hold connections; to be called once the gateway is there."""
        argv = [self.binary, "hold", "--to", f"127.0.0.1:{cell.port}", "--requests", requests]
        return Running([*argv, "--connections", connections, *options])

    def origin(self, origins):
        """An origin by itself; it waits for its sockets and does not spin."""
        return Running([self.binary, "origin", *listens("--listen", origins)])


def listens(option, origins):
    return [word for name, port in origins.items() for word in (option, f"127.0.0.1:{port}={name}")]


def get(path, *headers):
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"GET {path} HTTP/1.1\r\n{HEAD}{lines}\r\n"


def prepared(shared, workload, tokens):
    """The requests of a workload."""
    if workload in gateway.KEYED:
        keys = [line.split()[0] for line in (shared / "keys.txt").read_text().splitlines()]
        return (get("/api/items", f"X-API-Key: {key}") for key in keys[: REFUSED_KEYS if workload == "refused" else None])
    if workload == "full":
        # Every token with each version, but not thrice in a row.
        versions = [["X-API-Version: v1"], ["X-API-Version: v2"], []]
        pairs = [(token, versions[(n + turn) % 3]) for turn in range(3) for n, token in enumerate(tokens)]
        return (get("/api/items", f"Authorization: Bearer {token}", *version) for token, version in pairs)
    if workload in gateway.JWT:
        return (get("/api/items", f"Authorization: Bearer {token}") for token in tokens)
    return iter([get("/large" if workload == "plain64k" else "/api/items")])


class Running:
    """A process on the core of the load, whose lines are read along."""

    def __init__(self, argv, core=process.LOAD_CORE):
        argv = [*process.pinned(core), *map(str, argv)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, bufsize=1, start_new_session=True)
        self.told = []
        threading.Thread(target=lambda: self.told.extend(self.process.stderr), daemon=True).start()

    def until(self, word, seconds=60):
        """Reads lines until one begins so; raises Missing if it does not come."""
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                if line.startswith(word):
                    return line.rstrip("\n")
        finally:
            timer.cancel()
        self.process.wait()
        raise gateway.Missing(f"the load ended before {word!r}: {' '.join(self.told)[-300:].strip()}")

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self, seconds=60):
        """The line of JSON at the end."""
        return json.loads(self.until("{", seconds))

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
