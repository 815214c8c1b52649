"""A real gRPC service of bytes: it answers, streams, fails or hangs, and remembers what it saw."""

import asyncio
import json

import grpc


class Seen:
    """One call as it arrived."""

    def __init__(self, context):
        self.metadata = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()
        self.cancelled = asyncio.Event()


class Service(grpc.GenericRpcHandler):
    """Takes every service name; the method's name alone says what to do."""

    def __init__(self):
        self.seen = {}
        self.peers = set()
        self._methods = {
            "Echo": grpc.unary_unary_rpc_method_handler(self._echo),
            "Tell": grpc.unary_unary_rpc_method_handler(self._tell),
            "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
            "Sick": grpc.unary_unary_rpc_method_handler(self._sick),
            "Hang": grpc.unary_unary_rpc_method_handler(self._hang),
            "Repeat": grpc.unary_stream_rpc_method_handler(self._repeat),
            "Tire": grpc.unary_stream_rpc_method_handler(self._tire),
            "Gather": grpc.stream_unary_rpc_method_handler(self._gather),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
        }

    def service(self, details):
        return self._methods.get(details.method.rsplit("/", 1)[-1])

    def _note(self, context):
        seen = Seen(context)
        self.seen[seen.metadata.get("x-call")] = seen
        return seen

    async def _echo(self, request, context):
        self.peers.add(context.peer())
        await context.send_initial_metadata((("x-early", "first"),))
        context.set_trailing_metadata((("x-late", "last"), ("x-late-bin", b"\x00\xff")))
        return request

    async def _tell(self, _request, context):
        seen = self._note(context)
        texts = {k: v for k, v in seen.metadata.items() if isinstance(v, str)}
        return json.dumps({"metadata": texts, "remaining": seen.remaining}).encode()

    async def _fail(self, _request, context):
        context.set_trailing_metadata((("x-why", "because"),))
        await context.abort(grpc.StatusCode.NOT_FOUND, "100 % not there: ü")

    async def _sick(self, _request, context):
        self._note(context)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "sick")

    async def _hang(self, _request, context):
        await self._until_cancelled(self._note(context))

    async def _tire(self, _request, context):
        seen = self._note(context)
        for n in range(3):
            yield b"%d" % n
        await self._until_cancelled(seen)

    @staticmethod
    async def _until_cancelled(seen):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.cancelled.set()
            raise

    async def _repeat(self, request, _context):
        for n in range(int(request)):
            yield b"%d" % n

    async def _gather(self, requests, _context):
        total = 0
        async for request in requests:
            total += int(request)
        return b"%d" % total

    async def _chat(self, requests, _context):
        async for request in requests:
            yield request


# 4 MiB messages and a little around them.
MOST = 5 << 20
SIZES = [("grpc.max_receive_message_length", MOST), ("grpc.max_send_message_length", MOST)]


async def serve(service, credentials=None, options=()):
    """Starts a server on a free port; returns it and the port."""
    server = grpc.aio.server(handlers=(service,), options=[*SIZES, *options])
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    return server, port
