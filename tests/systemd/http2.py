"""A strict HTTP/2 client on a raw socket. GOAWAY is heeded to the letter (RFC 9113 §6.8): streams that it covers
have to be answered, streams beyond it are sent again, and nothing else may end a connection."""

import asyncio
import ssl
import struct

from hpack import Decoder, Encoder

from http1 import PATIENCE, Answer, dial, within
from tally import Broken

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 1
END_HEADERS = 4
PADDED = 8
PRIORITY = 0x20
WINDOW = 1 << 20


class Retry(Exception):
    """The server says that it did nothing with this stream."""


class Stream:
    """One exchange."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.done: asyncio.Future = asyncio.get_running_loop().create_future()


class Connection:
    """One connection and the task that reads it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.scheme = "https" if writer.get_extra_info("ssl_object") else "http"
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.streams: dict[int, Stream] = {}
        self.next_id = 1
        self.leaving = False  # a GOAWAY came: no new streams
        self.ended = False
        self.fault: Broken | None = None
        self.block = b""
        self.task: asyncio.Task | None = None

    @classmethod
    async def open(cls, address: str, tls: ssl.SSLContext | None = None) -> "Connection":
        """Connects and says hello."""
        connection = cls(*await dial(address, tls))
        if tls and connection.writer.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            raise Broken("protocol", "h2 was not agreed on")
        connection.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        # No pushes; a window for each stream that is large enough for all that is asked for here.
        connection.frame(SETTINGS, 0, 0, struct.pack(">HIHI", 2, 0, 4, WINDOW))
        connection.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW))
        connection.task = asyncio.create_task(connection.read())
        return connection

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Sends one frame."""
        self.writer.write(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

    def usable(self) -> bool:
        """Whether a new stream may be opened."""
        return not self.leaving and not self.ended and self.next_id < 1 << 30

    async def ask(self, target: str, patience: float = PATIENCE) -> Answer:
        """A GET and its answer."""
        stream, number = Stream(), self.next_id
        self.next_id += 2
        self.streams[number] = stream
        head = [(":method", "GET"), (":scheme", self.scheme), (":authority", "api.example.com"), (":path", target)]
        self.frame(HEADERS, END_STREAM | END_HEADERS, number, self.encoder.encode(head))
        try:
            return await within(patience, f"stream {number}", stream.done)
        finally:
            self.streams.pop(number, None)

    async def read(self) -> None:
        """Everything that comes, until the connection ends."""
        try:
            while True:
                head = await self.reader.readexactly(9)
                size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                stream = int.from_bytes(head[5:]) & 0x7FFFFFFF
                self.take(kind, flags, stream, await self.reader.readexactly(size))
        except asyncio.IncompleteReadError as e:
            inside = f", {len(e.partial)} bytes into a frame" if e.partial else ""
            self.end("eof", f"EOF{inside}", orderly=self.leaving and not e.partial)
        except Broken as broken:
            self.end(broken.cause, broken.detail, orderly=False)
        except OSError as e:
            self.end("reset", str(e), orderly=False)

    def end(self, cause: str, why: str, orderly: bool) -> None:
        """The connection is over. In order it is only after GOAWAY, and with nothing left to answer."""
        self.ended = True
        if not orderly:
            self.fault = Broken(cause, f"{why}, {len(self.streams)} streams open, GOAWAY: {self.leaving}")
        for number, stream in self.streams.items():
            if not stream.done.done():
                stream.done.set_exception(Broken(cause, f"stream {number}: {why}, GOAWAY: {self.leaving}"))
        self.writer.close()

    def take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """One frame."""
        stream = self.streams.get(number)
        if kind in (DATA, HEADERS) and flags & PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if kind == SETTINGS and not flags & ACK:
            self.frame(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self.frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            self.goes(*struct.unpack(">II", payload[:8]), payload[8:])
        elif kind == RST_STREAM:
            self.settle(number, Broken("reset", f"stream {number}: RST_STREAM {int.from_bytes(payload)}"))
        elif kind == DATA:
            if payload:
                self.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))
            if stream:
                if payload and not flags & END_STREAM:
                    self.frame(WINDOW_UPDATE, 0, number, struct.pack(">I", len(payload)))
                stream.body += payload
                self.finish(number, flags)
        elif kind in (HEADERS, CONTINUATION):
            self.block += payload[5:] if kind == HEADERS and flags & PRIORITY else payload
            if flags & END_HEADERS:
                fields, self.block = self.decoder.decode(self.block), b""
                if stream:
                    stream.headers += fields
            self.finish(number, flags if kind == HEADERS else 0)

    def goes(self, last: int, code: int, debug: bytes) -> None:
        """GOAWAY."""
        self.leaving = True
        if code:
            raise Broken("goaway", f"error {code} {debug[:100]!r}")
        for number in [n for n in self.streams if n > last & 0x7FFFFFFF]:
            self.settle(number, Retry())

    def settle(self, number: int, result: Answer | Exception) -> None:
        """A stream is over."""
        stream = self.streams.get(number)
        if stream and not stream.done.done():
            if isinstance(result, Exception):
                stream.done.set_exception(result)
            else:
                stream.done.set_result(result)

    def finish(self, number: int, flags: int) -> None:
        """The end of a stream in good order."""
        stream = self.streams.get(number)
        if stream and flags & END_STREAM:
            headers = dict(stream.headers)
            self.settle(number, Answer(int(headers.get(":status", 0)), headers, bytes(stream.body)))

    async def close(self) -> None:
        """Ends it from this side."""
        self.leaving = True
        if self.task:
            self.task.cancel()
        self.writer.close()
