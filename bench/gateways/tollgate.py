"""Tollgate, as the repository builds it, or the binary that TOLLGATE names."""

import hashlib
import json
import os
import pathlib

from gateway import JWT, KEYED, ROOT, TLS, WORKLOADS, Gateway, Missing, run

# The highest rate a limit takes; it is not reached in a minute.
MOST = 268_435_454


class Tollgate(Gateway):
    name = "tollgate"
    workloads = frozenset(WORKLOADS)
    countable = True

    def __init__(self):
        self.binary = pathlib.Path(os.environ.get("TOLLGATE") or ROOT / "target" / "release" / "tollgate").resolve()

    def install(self):
        if "TOLLGATE" not in os.environ:
            run("cargo", "build", "--locked", "--release", "--quiet", cwd=ROOT)
        if not self.binary.exists():
            raise Missing("there is no binary")
        return run(self.binary, "--version").split()[-1]

    def command(self, cell):
        return [self.binary, "run", "-c", "tollgate.yaml"]

    def configure(self, cell):
        # JSON is YAML.
        (cell.dir / "tollgate.yaml").write_text(json.dumps(self.config(cell), indent=1))
        if cell.workload in KEYED:
            (cell.dir / "keys.yaml").write_text(json.dumps({"keys": digests(cell)}))

    def config(self, cell):
        listener = {
            "name": "public",
            "address": f"127.0.0.1:{cell.port}",
            "max_connections": 100_000,
            "max_connections_per_address": 100_000,
            "max_requests_per_connection": 1_000_000_000,
            "idle_timeout": "10m",
        }
        if cell.workload in TLS:
            listener["tls"] = {"certificates": [{"cert": str(cell.cert), "key": str(cell.key)}]}
        full = cell.workload == "full"
        config = {
            "server": {"workers": cell.workers},
            "listeners": [listener],
            "log": {"access": str(cell.access_log) if full else "off", "buffer": 65_536},
            "upstreams": [upstream(name, port) for name, port in cell.origins.items()],
            "routes": [route(cell)],
        }
        if count := cell.extra.get("routes"):
            config["routes"] = [{**route(cell), "name": f"r{n}", "match": {"path": f"/r{n}"}} for n in range(count)]
        if cell.extra.get("clients"):
            config["trusted_proxies"] = ["127.0.0.0/8"]
            config["limits"] = [{"name": "each", "key": "address", "algorithm": "sliding_window", "rate": f"{MOST}/1m"}]
            config["routes"][0]["limits"] = ["each"]
        if cell.workload in KEYED:
            config["identity"] = {"api_keys": [{"name": "keys", "file": "keys.yaml"}]}
        if cell.workload in JWT:
            config["identity"] = {"jwt": [issuer(cell)]}
        if cell.workload in KEYED or full:
            rate = f"{min(cell.limit, MOST)}/1m"
            config["limits"] = [{"name": "each", "key": "client", "algorithm": "sliding_window", "rate": rate}]
        return config


def upstream(name, port):
    return {"name": name, "targets": [f"127.0.0.1:{port}"], "timeouts": {"total": "60s"}}


def route(cell):
    full = cell.workload == "full"
    made = {"name": "all", "match": {"path": "/api" if full else "/"}, "strip_prefix": False, "auth": "none", "to": "v1"}
    if cell.workload in KEYED:
        made.update(auth={"any": ["keys"]}, limits=["each"])
    if cell.workload in JWT:
        made["auth"] = {"any": ["bench"]}
    if full:
        made["limits"] = ["each"]
        values = {"v1": "v1", "v2": {"weights": {"v2": 90, "canary": 10}}}
        made["to"] = {"header": "X-API-Version", "values": values, "default": "v1"}
    return made


def issuer(cell):
    keys = {
        "HS256": {"secret": f"file:{cell.hs256_secret}"},
        "RS256": {"public_key": f"file:{cell.rs256_public}"},
        "ES256": {"public_key": f"file:{cell.es256_public}"},
    }
    return {
        "name": "bench",
        "issuer": cell.issuer,
        "audiences": [cell.audience],
        "algorithms": [cell.algorithm],
        "keys": [{"kid": cell.kid, "alg": cell.algorithm, **keys[cell.algorithm]}],
    }


def digests(cell):
    """The API keys as Tollgate stores them."""
    pairs = [line.split() for line in cell.keys.read_text().splitlines()]
    return [
        {"id": f"key-{n}", "hash": f"sha256:{hashlib.sha256(key.encode()).hexdigest()}", "client": client}
        for n, (key, client) in enumerate(pairs)
    ]
