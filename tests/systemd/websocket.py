"""A strict WebSocket client on a raw socket (RFC 6455): messages have to come back, and nothing but a Close frame
may end it."""

import asyncio
import base64
import hashlib
import os
import ssl

from http1 import Connection, PATIENCE, within
from tally import Broken

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame."""
    mask = os.urandom(4)
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
    return bytes([0x80 | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


class WebSocket:
    """An open one."""

    def __init__(self, connection: Connection) -> None:
        self.reader = connection.reader
        self.writer = connection.writer
        self.connection = connection

    @classmethod
    async def open(cls, address: str, target: str, tls: ssl.SSLContext | None = None) -> "WebSocket":
        """Connects and shakes hands."""
        connection = await Connection.open(address, tls)
        key = base64.b64encode(os.urandom(16))
        extra = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n"
        await connection.send("GET", target, extra=extra)
        status, headers = await connection.head()
        if status != 101:
            raise Broken("status", f"{status} instead of 101")
        want = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        if headers.get("sec-websocket-accept") != want:
            raise Broken("protocol", "a wrong Sec-WebSocket-Accept")
        return cls(connection)

    async def frame(self, patience: float = PATIENCE) -> tuple[int, bytes]:
        """The next frame of the server."""
        head = await within(patience, "WebSocket frame", self.reader.readexactly(2))
        size = head[1] & 0x7F
        if head[1] & 0x80 or not head[0] & 0x80 or head[0] & 0x70:
            raise Broken("protocol", f"a frame that begins with {head!r}")
        if size >= 126:
            size = int.from_bytes(await within(PATIENCE, "frame size", self.reader.readexactly(2 if size == 126 else 8)))
        return head[0] & 0x0F, await within(PATIENCE, "frame payload", self.reader.readexactly(size))

    def send(self, opcode: int, payload: bytes) -> None:
        """A frame of ours."""
        self.writer.write(masked(opcode, payload))

    async def echo(self, payload: bytes) -> int | None:
        """Sends a message and waits for it; the code of a Close if that comes instead."""
        self.send(TEXT, payload)
        while True:
            opcode, got = await self.frame()
            if opcode == PING:
                self.send(PONG, got)
            elif opcode == CLOSE:
                return await self.closed(got)
            elif opcode == TEXT:
                if got != payload:
                    raise Broken("body", f"{got[:80]!r} came back for {payload[:80]!r}")
                return None

    async def idle(self, seconds: float) -> int | None:
        """Stays silent for a while; the code of a Close if one comes."""
        try:
            async with asyncio.timeout(seconds):
                opcode, got = await self.frame(patience=seconds + PATIENCE)
        except TimeoutError:
            return None
        if opcode != CLOSE:
            raise Broken("protocol", f"a frame of kind {opcode} out of the blue")
        return await self.closed(got)

    async def closed(self, payload: bytes) -> int:
        """After a Close of the server: ours, then its FIN."""
        code = int.from_bytes(payload[:2]) if len(payload) >= 2 else 1005
        self.send(CLOSE, payload[:2])
        rest = await within(PATIENCE, "FIN after Close", self.reader.read(1))
        if rest:
            raise Broken("protocol", f"a byte after Close: {rest!r}")
        await self.connection.close()
        return code
