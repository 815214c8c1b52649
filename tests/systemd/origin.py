"""The service behind the gateway: answers whose bodies follow from the request, trickled downloads, uploads, a
WebSocket echo. It never closes a connection that it was not asked to close.

    origin.py 127.0.0.1:18100
"""

import asyncio
import base64
import hashlib
import random
import signal
import sys
from urllib.parse import parse_qs, urlsplit

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def greeting(target: str) -> bytes:
    """The body for a small request."""
    return f"hello {target}\n".encode()


def stuff(seed: int, size: int) -> bytes:
    """The body of a download."""
    return random.Random(seed).randbytes(size)


async def trickle(writer: asyncio.StreamWriter, query: dict) -> None:
    """A body in a hundred pieces over some time, in chunks."""
    seconds, size, seed = float(query["seconds"][0]), int(query["size"][0]), int(query["seed"][0])
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    body, step = stuff(seed, size), -(-size // 100)
    for at in range(0, size, step):
        piece = body[at : at + step]
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(seconds / 100)
    writer.write(b"0\r\n\r\n")


async def body_of(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """The body of a request."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length", 0)))
    whole = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        whole += (await reader.readexactly(size + 2))[:-2]
        if size == 0:
            return whole


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
    """A WebSocket that sends every message back, until Close."""
    accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
    writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    while True:
        head = await reader.readexactly(2)
        size = head[1] & 0x7F
        raw = b""
        if size >= 126:
            raw = await reader.readexactly(2 if size == 126 else 8)
            size = int.from_bytes(raw)
        mask, payload = await reader.readexactly(4), await reader.readexactly(size)
        writer.write(bytes([head[0], head[1] & 0x7F]) + raw + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))
        await writer.drain()
        if head[0] & 0x0F == 8:
            return


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A connection of the gateway."""
    try:
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines if line)}
            body = await body_of(reader, headers)
            parts = urlsplit(target)
            if headers.get("upgrade", "").lower() == "websocket":
                return await echo(reader, writer, headers)
            if parts.path.endswith("/trickle"):
                await trickle(writer, parse_qs(parts.query))
            else:
                answer = hashlib.sha256(body).hexdigest().encode() if method == "POST" else greeting(target)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + str(len(answer)).encode() + b"\r\n\r\n" + answer)
            await writer.drain()
            if "close" in headers.get("connection", ""):
                return None
    except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
        return None  # the gateway closed it, or is gone, or this ends
    finally:
        writer.close()


async def main() -> None:
    """Serves until SIGTERM."""
    host, _, port = sys.argv[1].rpartition(":")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(serve, host, int(port), backlog=1024)
    print(f"origin: serving on {sys.argv[1]}", flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
