"""The gateway's own process: its config, its start and its end."""

import asyncio
import json
import pathlib
import re
import signal

KEYS = pathlib.Path(__file__).resolve().parents[3] / "conf" / "keys"
TLS = KEYS / "tls"

HEAD = """
server: {{ workers: 2, drain: {{ max: 10s }} }}
listeners:
  - {{ name: plain, address: "127.0.0.1:0", protocol: h2c }}
  - name: secure
    address: "127.0.0.1:0"
    tls: {{ certificates: [{{ cert: "{tls}/api-ecdsa.pem", key: "{tls}/api-ecdsa.key" }}] }}
log: {{ access: "{log}" }}
identity:
  api_keys: [{{ name: keys, header: X-API-Key, file: "{keys}/api-keys.yaml" }}]
limits: [{{ name: two, key: address, algorithm: sliding_window, rate: 2/1d }}]
"""

UPSTREAM = '  - {{ name: {name}, targets: ["127.0.0.1:{port}"], protocol: http2{tls} }}\n'
ROUTE = "  - {{ name: {name}, match: {{ path: /{name} }}, strip_prefix: false, to: {to}, {more} }}\n"

# What each service of a flavour is for; the part behind the flavour's name.
ROUTES = {
    "Open": "auth: none, max_body: 1GiB",
    "Stream": "auth: none, max_body: 1GiB, streaming: { idle_timeout: 1m }",
    "Keyed": "auth: { any: [keys] }",
    "Limited": "auth: none, limits: [two]",
    "Short": "auth: none, timeout: 500ms",
    "Small": "auth: none, max_body: 1KiB",
}


def config(log, flavours, dead_port):
    """The config for flavours, each a name and the ports of its service: steady and ageing."""
    upstreams, routes = "", ""
    for name, (port, ageing) in flavours.items():
        secure = name == "secure"
        tls = f', tls: {{ server_name: users.internal, ca: "{TLS}/internal-ca.pem" }}' if secure else ""
        # Of its own, since its circuit is to open.
        for up, at in [(name, port), (f"{name}-ageing", ageing), (f"{name}-sick", port)]:
            upstreams += UPSTREAM.format(name=up, port=at, tls=tls)
        upstreams += UPSTREAM.format(name=f"{name}-dead", port=dead_port, tls=tls)
        for service, more in ROUTES.items():
            routes += ROUTE.format(name=f"{name}.{service}", to=name, more=more)
        for service in ["Ageing", "Sick", "Dead"]:
            to = f"{name}-{service.lower()}"
            routes += ROUTE.format(name=f"{name}.{service}", to=to, more="auth: none")
    head = HEAD.format(tls=TLS, keys=KEYS, log=log)
    return f"{head}upstreams:\n{upstreams}routes:\n{routes}"


class Gateway:
    """A running gateway."""

    def __init__(self, process, ports, log):
        self.ports = ports
        self._process = process
        self._log = log
        # Nobody else reads on; a full pipe would stop it.
        self._rest = asyncio.ensure_future(process.stderr.read())

    @classmethod
    async def start(cls, binary, folder, flavours, dead_port):
        log = folder / "access.log"
        path = folder / "gateway.yaml"
        path.write_text(config(log, flavours, dead_port))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(binary, "run", "-c", path, stderr=pipe)
        ports, said = {}, ""
        while len(ports) < 2:
            line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
            said += line
            if not line:
                raise RuntimeError(f"the gateway did not start:\n{said}")
            found = re.search(r"listener (\w+): serving on .*:(\d+)", line)
            if found:
                ports[found[1]] = int(found[2])
        return cls(process, ports, log)

    def lines(self):
        """The access lines written so far."""
        text = self._log.read_text() if self._log.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def drain(self):
        self._process.send_signal(signal.SIGTERM)

    async def ended(self):
        """Its exit code, once what it drains is done."""
        return await asyncio.wait_for(self._process.wait(), 20)

    async def stop(self):
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await self._rest
