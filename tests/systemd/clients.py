"""Strict clients that put a gateway under a steady, modest load until SIGTERM, then tell in JSON what they saw.

A failure is: a refused connection, a reset, an EOF inside an answer, an EOF on a kept connection that no
`Connection: close` and no GOAWAY announced, a wrong status, a wrong body, a wait of 30 s, a WebSocket that ends
other than by Close 1001. Nothing is ever tried again in silence.

    clients.py --plain 127.0.0.1:18080 --tls 127.0.0.1:18443 --h2c 127.0.0.1:18082 --report clients.json

`origin.py` is the service that has to be behind the gateway, at /origin, with the prefix left on.
"""

import argparse
import asyncio
import hashlib
import json
import random
import signal
import time

import http2
from http1 import PATIENCE, Connection, expect, trusting
from origin import greeting, stuff
from tally import Broken, Tally
from websocket import WebSocket

# How many of each at --scale 1.
KINDS = {"fresh": 4, "fresh_tls": 2, "keep": 24, "keep_tls": 8, "idle": 8, "upload": 4, "download": 8, "h2c": 3, "h2": 2, "websocket": 8}
STREAMS = 3  # that ask at a time on an HTTP/2 connection


class Load:
    """All clients of this process."""

    def __init__(self, where: argparse.Namespace) -> None:
        self.where = where
        self.tally = Tally()
        self.stop = asyncio.Event()
        self.tls = trusting()
        self.tls2 = trusting()
        self.tls2.set_alpn_protocols(["h2"])
        self.serial = 0

    def target(self) -> str:
        """One that nobody has asked for before: an answer that belongs to another request shows."""
        self.serial += 1
        return f"/origin/greet/{self.serial}-{random.getrandbits(32):x}"

    async def pause(self, least: float, most: float) -> bool:
        """Thinks for a while; whether to go on."""
        try:
            await asyncio.wait_for(self.stop.wait(), random.uniform(least, most))
            return False
        except TimeoutError:
            return True

    async def greet(self, connection: Connection) -> bool:
        """A request on a connection; whether the connection stays."""
        target = self.target()
        answer = await connection.ask("GET", target)
        expect(answer, 200, greeting(target))
        if not answer.closes:
            return True
        self.tally.note("closes announced")
        await connection.last()
        return False

    async def fresh(self, kind: str, address: str, tls) -> None:
        """A new connection for each request."""
        connection = await Connection.open(address, tls)
        try:
            if await self.greet(connection):
                self.tally.note("closes by client")
        finally:
            await connection.close()
        self.tally.good(kind)
        await self.pause(0.05, 0.35)

    async def keep(self, kind: str, address: str, tls, least: float = 0.05, most: float = 2.0) -> None:
        """One connection, until its end is announced. Never silent for as long as `drain.idle`."""
        connection = await Connection.open(address, tls)
        stays = True
        try:
            while stays:
                stays = await self.greet(connection)
                self.tally.good(kind)
                if not stays or not await self.pause(least, most):
                    return
                if connection.ended():
                    raise Broken("eof", f"unannounced, before request {connection.requests + 1} of a connection")
        finally:
            await connection.close()

    async def idle(self, kind: str, address: str, tls) -> None:
        """One that is silent for longer than `drain.idle`, and so may find the connection closed, by FIN."""
        connection = await Connection.open(address, tls)
        try:
            while await self.greet(connection):
                self.tally.good(kind)
                if not await self.pause(6, 14):
                    return
                if connection.ended():
                    if connection.reader.exception():
                        raise Broken("reset", "an idle connection")
                    self.tally.note("idle connections closed")
                    return
        finally:
            await connection.close()

    async def upload(self, kind: str, address: str, tls) -> None:
        """A body that takes its time."""
        body = random.randbytes(random.randint(1, 200_000))
        connection = await Connection.open(address, tls)
        try:
            # Well above the least rate that a listener takes (`min_body_rate`, 240 bytes a second).
            seconds = random.uniform(0, min(8.0, len(body) / 2000))
            answer = await connection.ask("POST", "/origin/upload", body=body, pieces=20, pause=seconds / 20)
            expect(answer, 200, hashlib.sha256(body).hexdigest().encode())
            if answer.closes:
                await connection.last()
        finally:
            await connection.close()
        self.tally.good(kind)
        await self.pause(0.1, 1)

    async def download(self, kind: str, address: str, tls) -> None:
        """An answer that takes up to a minute."""
        seed, size = random.getrandbits(32), random.randint(100_000, 1_000_000)
        seconds = random.uniform(*self.where.download)
        connection = await Connection.open(address, tls)
        try:
            await connection.send("GET", f"/origin/trickle?seconds={seconds:.1f}&size={size}&seed={seed}")
            status, headers = await connection.head()
            body = await connection.body(headers, PATIENCE)
            if status != 200 or body != stuff(seed, size):
                raise Broken("body" if status == 200 else "status", f"{status}, {len(body)} of {size} bytes")
            if "close" in headers.get("connection", ""):
                await connection.last()
        finally:
            await connection.close()
        self.tally.good(kind)
        await self.pause(0.1, 1)

    async def multiplex(self, kind: str, address: str, tls) -> None:
        """A connection with several streams at a time; a long one now and then."""
        connection = await http2.Connection.open(address, tls)
        try:
            await asyncio.gather(*(self.ask(kind, connection) for _ in range(STREAMS)))
            if connection.fault:
                raise connection.fault
            self.tally.note("HTTP/2 connections ended by GOAWAY" if connection.leaving else "HTTP/2 connections ended by client")
        finally:
            await connection.close()

    async def ask(self, kind: str, connection: http2.Connection) -> None:
        """One stream after the other, until GOAWAY."""
        while connection.usable():
            try:
                if random.random() < 0.05:
                    seed, seconds = random.getrandbits(32), random.uniform(2, 10)
                    answer = await connection.ask(f"/origin/trickle?seconds={seconds:.1f}&size=50000&seed={seed}", PATIENCE + 10)
                    expect(answer, 200, stuff(seed, 50000))
                else:
                    target = self.target()
                    expect(await connection.ask(target), 200, greeting(target))
                self.tally.good(kind)
            except http2.Retry:
                self.tally.note("streams beyond GOAWAY")
                return
            except Broken as broken:
                self.tally.bad(kind, broken)
                if connection.fault:
                    return
            if not await self.pause(0.1, 1):
                return

    async def websocket(self, kind: str, address: str, tls) -> None:
        """Messages that come back, until Close 1001."""
        socket = await WebSocket.open(address, "/origin/ws", tls)
        code = None
        try:
            while code is None:
                code = await socket.echo(random.randbytes(random.choice([5, 90, 900])).hex().encode())
                if code is None:
                    self.tally.good(kind)
                    if self.stop.is_set():
                        return
                    code = await socket.idle(random.uniform(0.2, 2))
            if code != 1001:
                raise Broken("close", f"Close {code}")
            self.tally.note("WebSockets ended by Close 1001")
        finally:
            await socket.connection.close()

    async def client(self, kind: str) -> None:
        """One client of a kind, for as long as this runs."""
        methods = {"fresh_tls": self.fresh, "keep_tls": self.keep, "h2c": self.multiplex, "h2": self.multiplex}
        method = methods.get(kind) or getattr(self, kind)
        address, tls = self.where.plain, None
        if kind == "h2c":
            address = self.where.h2c
        elif kind in ("fresh_tls", "keep_tls", "h2"):
            address, tls = self.where.tls, self.tls2 if kind == "h2" else self.tls
        if not address or not await self.pause(0, 2):
            return
        while not self.stop.is_set():
            try:
                await method(kind, address, tls)
            except Broken as broken:
                self.tally.bad(kind, broken)
                await self.pause(0.1, 0.3)

    async def run(self) -> dict:
        """All of them until the end; what is in flight then may finish."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        if self.where.seconds:
            loop.call_later(self.where.seconds, self.stop.set)
        started = time.time()
        kinds = {kind: max(1, round(count * self.where.scale)) for kind, count in KINDS.items() if kind not in self.where.without}
        tasks = [asyncio.create_task(self.client(kind)) for kind, count in kinds.items() for _ in range(count)]
        await self.stop.wait()
        self.tally.ending = True
        done, late = await asyncio.wait(tasks, timeout=self.where.finish)
        for task in late:
            task.cancel()
        for task in done:
            task.result()  # a fault of this script must not pass as a quiet load
        return self.tally.report() | {"seconds": round(time.time() - started, 1), "clients": kinds, "unfinished": len(late)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", help="address of an HTTP/1.1 listener")
    parser.add_argument("--tls", help="address of a TLS listener")
    parser.add_argument("--h2c", help="address of an HTTP/2 listener without TLS")
    parser.add_argument("--scale", type=float, default=1.0, help="how many clients")
    parser.add_argument("--download", type=float, nargs=2, default=(5.0, 60.0), help="seconds that a download takes")
    parser.add_argument("--without", nargs="*", default=[], choices=list(KINDS), help="kinds of clients to leave out")
    parser.add_argument("--seconds", type=float, help="end by itself; default: at SIGTERM")
    parser.add_argument("--finish", type=float, default=90.0, help="seconds for what is in flight at the end")
    parser.add_argument("--report", required=True, help="where the report goes")
    where = parser.parse_args()
    report = asyncio.run(Load(where).run())
    with open(where.report, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
    print(f"{report['ok']} ok, {report['failed']} failed {report['failed_by_kind_and_cause']}")
    raise SystemExit(1 if report["failed"] or not report["ok"] else 0)


if __name__ == "__main__":
    main()
