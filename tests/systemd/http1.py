"""A strict HTTP/1.1 client on a raw socket: every byte has to be there, and a close has to be announced."""

import asyncio
import ssl
from dataclasses import dataclass

from tally import Broken

PATIENCE = 30.0  # for anything that should come at once; generous, the machine may be busy


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether it announced that the connection ends."""
        return "close" in self.headers.get("connection", "").lower()


def host_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:80` in parts."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def trusting() -> ssl.SSLContext:
    """TLS whose certificate nobody looks at: what is tested here is not identity."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def within(seconds: float, what: str, coroutine):
    """A result in time, and any trouble under its proper name."""
    try:
        async with asyncio.timeout(seconds):
            return await coroutine
    except TimeoutError:
        raise Broken("timeout", f"{what}: nothing for {seconds:.0f} s") from None
    except ConnectionResetError as e:
        raise Broken("reset", f"{what}: {e}") from None
    except BrokenPipeError as e:
        raise Broken("reset", f"{what}: {e}") from None
    except asyncio.IncompleteReadError as e:
        raise Broken("eof", f"{what}: {len(e.partial)} bytes, then EOF") from None
    except ssl.SSLError as e:
        raise Broken("tls", f"{what}: {e}") from None


async def dial(address: str, tls: ssl.SSLContext | None):
    """A new connection."""
    host, port = host_port(address)
    try:
        opened = asyncio.open_connection(host, port, ssl=tls, server_hostname="api.example.com" if tls else None)
        return await within(PATIENCE, "connect", opened)
    except ConnectionRefusedError:
        raise Broken("refused", f"{address} refused the connection") from None
    except OSError as e:
        raise Broken("connect", f"{address}: {e}") from None


class Connection:
    """A connection that is kept while both sides like."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.requests = 0

    @classmethod
    async def open(cls, address: str, tls: ssl.SSLContext | None = None) -> "Connection":
        """Connects."""
        return cls(*await dial(address, tls))

    def ended(self) -> bool:
        """Whether the other side has closed it while nothing was asked."""
        return self.reader.at_eof() or self.reader.exception() is not None

    async def send(self, method: str, target: str, body: bytes = b"", pieces: int = 1, pause: float = 0.0, extra: str = "") -> None:
        """A request; its body in some pieces, with a pause after each."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: api.example.com\r\n{length}{extra}\r\n"
        self.requests += 1
        self.writer.write(head.encode())
        step = max(1, -(-len(body) // pieces))
        for at in range(0, len(body), step):
            self.writer.write(body[at : at + step])
            await within(PATIENCE, "request body", self.writer.drain())
            if pause:
                await asyncio.sleep(pause)
        await within(PATIENCE, "request", self.writer.drain())

    async def head(self) -> tuple[int, dict[str, str]]:
        """The header of an answer."""
        what = f"answer {self.requests} of a connection"
        raw = await within(PATIENCE, what, self.reader.readuntil(b"\r\n\r\n"))
        first, *lines = raw.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or parts[0] != "HTTP/1.1" or not parts[1].isdigit():
            raise Broken("protocol", f"no status line: {first!r}")
        fields = (line.split(":", 1) for line in lines if line)
        return int(parts[1]), {name.lower(): value.strip() for name, value in fields}

    async def body(self, headers: dict[str, str], patience: float = PATIENCE) -> bytes:
        """The body that such a header announces."""
        if "chunked" in headers.get("transfer-encoding", ""):
            return await self.chunks(patience)
        if "content-length" not in headers:
            raise Broken("protocol", "an answer without a length")
        left = int(headers["content-length"])
        whole = bytearray()
        while left:
            piece = await within(patience, "answer body", self.reader.read(min(left, 65536)))
            if not piece:
                raise Broken("eof", f"answer body: {left} of {headers['content-length']} bytes are missing")
            whole += piece
            left -= len(piece)
        return bytes(whole)

    async def chunks(self, patience: float) -> bytes:
        """A chunked body."""
        whole = bytearray()
        while True:
            line = await within(patience, "chunk size", self.reader.readuntil(b"\r\n"))
            size = int(line.split(b";")[0], 16)
            piece = await within(patience, "chunk", self.reader.readexactly(size + 2))
            whole += piece[:-2]
            if size == 0:
                return bytes(whole)

    async def ask(self, method: str, target: str, **how) -> Answer:
        """A request and its answer."""
        await self.send(method, target, **how)
        status, headers = await self.head()
        return Answer(status, headers, await self.body(headers))

    async def last(self) -> None:
        """After an announced close: FIN has to come, and nothing before it."""
        rest = await within(PATIENCE, "FIN after an announced close", self.reader.read(1))
        if rest:
            raise Broken("protocol", f"a byte after the last answer: {rest!r}")
        await self.close()

    async def close(self) -> None:
        """Ends it from this side."""
        self.writer.close()
        try:
            async with asyncio.timeout(5):
                await self.writer.wait_closed()
        except (OSError, TimeoutError, ssl.SSLError):
            pass


def expect(answer: Answer, status: int, body: bytes) -> None:
    """The one right answer."""
    if answer.status != status:
        raise Broken("status", f"{answer.status} instead of {status}: {answer.body[:200]!r}")
    if answer.body != body:
        raise Broken("body", f"{len(answer.body)} bytes {answer.body[:80]!r} instead of {len(body)} bytes {body[:80]!r}")
