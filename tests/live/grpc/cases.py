"""What real gRPC must be able to do through the gateway. Each case is a coroutine of a `Side`."""

import asyncio
import json
import time
import uuid

import grpc
from grpc import StatusCode as S
from service import SIZES

PATIENCE = 15
KEY = "example-partner-key-1"


class Side:
    """A client's view: channels to one listener, whose services begin with the flavour's name."""

    def __init__(self, flavour, dial, service, gateway):
        self.flavour, self.service, self.gateway = flavour, service, gateway
        self._dial = dial
        self.channel = self.dial()

    def dial(self, options=()):
        return self._dial([*SIZES, ("grpc.use_local_subchannel_pool", 1), *options])

    def call(self, kind, name, service="Open", channel=None):
        make = getattr(channel or self.channel, kind)
        return make(f"/{self.flavour}.{service}/{name}")

    async def refused(self, call):
        """The error that a call ends with."""
        try:
            answer = await asyncio.wait_for(call, PATIENCE)
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError(f"it was answered: {answer!r}")

    async def seen(self, name):
        """What the service saw of a call, once it is there."""
        return await eventually(lambda: self.service.seen.get(name))


async def eventually(found):
    end = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.005)
    return value


def named():
    """Metadata by which the service knows a call again, and the name in it."""
    name = uuid.uuid4().hex
    return (("x-call", name),), name


def equal(got, want):
    assert got == want, f"{got!r} is not {want!r}"


def trailing(error):
    return dict(error.trailing_metadata())


async def unary(side):
    call = side.call("unary_unary", "Echo")(b"hello")
    equal(await call, b"hello")
    early, late = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    equal(early["x-early"], "first")
    assert len(early["x-request-id"]) >= 16, early
    equal((late["x-late"], late["x-late-bin"]), ("last", b"\x00\xff"))
    equal(await call.code(), S.OK)
    equal(await side.call("unary_unary", "Echo")(b""), b"")


async def metadata(side):
    sent = (("x-tenant", "acme"), ("x-user-id", "root"), ("traceparent", "nonsense"))
    told = json.loads(await side.call("unary_unary", "Tell")(b"", metadata=sent))
    equal(told["metadata"]["x-tenant"], "acme")
    assert "x-user-id" not in told["metadata"], "what names the caller is the gateway's to say"
    equal(told["metadata"]["x-forwarded-for"], "127.0.0.1")
    assert told["remaining"] is None, "nobody set a deadline"


async def server_stream(side):
    call = side.call("unary_stream", "Repeat")(b"1000")
    equal([int(m) async for m in call], list(range(1000)))


async def client_stream(side):
    numbers = (b"%d" % n for n in range(1000))
    equal(await side.call("stream_unary", "Gather")(numbers), b"499500")


async def both_streams(side, service="Stream"):
    """Each message is sent when the one before it has come back."""
    call = side.call("stream_stream", "Chat", service)()
    for n in range(500):
        await call.write(b"%d" % n)
        equal(await asyncio.wait_for(call.read(), PATIENCE), b"%d" % n)
    await call.done_writing()
    equal(await call.read(), grpc.aio.EOF)
    equal(await call.code(), S.OK)


async def large_messages(side):
    big = bytes(range(256)) * (4 << 12)
    equal(len(big), 4 << 20)
    assert await side.call("unary_unary", "Echo")(big) == big, "4 MiB came back otherwise"
    call = side.call("stream_stream", "Chat", "Stream")()
    for _ in range(3):
        await call.write(big)
        assert await call.read() == big, "4 MiB came back otherwise in a stream"
    await call.done_writing()


async def failures_pass(side):
    error = await side.refused(side.call("unary_unary", "Fail")(b""))
    equal((error.code(), error.details()), (S.NOT_FOUND, "100 % not there: ü"))
    equal(trailing(error)["x-why"], "because")
    error = await side.refused(side.call("unary_unary", "Nothing")(b""))
    equal(error.code(), S.UNIMPLEMENTED)
    assert "x-error-code" not in trailing(error), "that was the service"


async def clients_deadline(side):
    sent, name = named()
    error = await side.refused(side.call("unary_unary", "Hang")(b"", timeout=0.4, metadata=sent))
    equal(error.code(), S.DEADLINE_EXCEEDED)
    seen = await side.seen(name)
    # Client libraries round up.
    assert 0 < seen.remaining <= 0.45, f"the service was told of {seen.remaining} s"
    await asyncio.wait_for(seen.cancelled.wait(), PATIENCE)
    told = json.loads(await side.call("unary_unary", "Tell")(b"", timeout=3000))
    assert 5 < told["remaining"] <= 10.1, f"no longer than the gateway waits: {told['remaining']}"
    told = json.loads(await side.call("unary_unary", "Tell", "Stream")(b"", timeout=3000))
    assert 2900 < told["remaining"] < 3100, f"a stream has its whole time: {told['remaining']}"


async def gateways_deadline(side):
    sent, name = named()
    began = time.monotonic()
    error = await side.refused(side.call("unary_unary", "Hang", "Short")(b"", metadata=sent))
    took = time.monotonic() - began
    equal(error.code(), S.DEADLINE_EXCEEDED)
    equal(trailing(error)["x-error-code"], "upstream_timeout")
    assert 0.4 < took < 3, f"{took} s instead of 500 ms"
    await asyncio.wait_for((await side.seen(name)).cancelled.wait(), PATIENCE)


async def cancellation(side):
    sent, name = named()
    call = side.call("unary_stream", "Tire", "Stream")(b"", metadata=sent)
    equal([await call.read() for _ in range(3)], [b"0", b"1", b"2"])
    seen = await side.seen(name)
    assert not seen.cancelled.is_set()
    assert call.cancel()
    await asyncio.wait_for(seen.cancelled.wait(), PATIENCE)
    sent, name = named()
    call = side.call("unary_unary", "Hang", "Stream")(b"", metadata=sent)
    # It is sent when somebody waits for it.
    waiting = asyncio.ensure_future(call.code())
    seen = await side.seen(name)
    call.cancel()
    equal(await waiting, S.CANCELLED)
    await asyncio.wait_for(seen.cancelled.wait(), PATIENCE)


async def credentials(side):
    keyed = side.call("unary_unary", "Tell", "Keyed")
    for sent, code in [((), "api_key_required"), ((("x-api-key", "wrong"),), "api_key_unknown")]:
        error = await side.refused(keyed(b"", metadata=sent))
        equal(error.code(), S.UNAUTHENTICATED)
        equal(trailing(error)["x-error-code"], code)
        assert "API key" in error.details(), error.details()
    told = json.loads(await keyed(b"", metadata=(("x-api-key", KEY),)))
    equal(told["metadata"]["x-client-id"], "acme")
    assert "x-api-key" not in told["metadata"], "credentials end at the gateway"


async def limits(side):
    limited = side.call("unary_unary", "Echo", "Limited")
    for left in ["1", "0"]:
        call = limited(b"x")
        await call
        equal(dict(await call.initial_metadata())["x-ratelimit-remaining"], left)
    error = await side.refused(limited(b"x"))
    equal(error.code(), S.RESOURCE_EXHAUSTED)
    told = trailing(error)
    equal(told["x-error-code"], "rate_limited")
    equal(int(told["grpc-retry-pushback-ms"]), int(told["retry-after"]) * 1000)
    equal(told["x-ratelimit-limit"], "2")


async def sizes(side):
    error = await side.refused(side.call("unary_unary", "Echo", "Small")(bytes(2000)))
    equal(error.code(), S.RESOURCE_EXHAUSTED)
    equal(trailing(error)["x-error-code"], "body_too_large")


async def nowhere(side):
    error = await side.refused(side.call("unary_unary", "Echo", "Nobody")(b""))
    equal((error.code(), error.details()), (S.UNIMPLEMENTED, "Route not found"))
    error = await side.refused(side.call("unary_unary", "Echo", "Dead")(b""))
    equal(error.code(), S.UNAVAILABLE)
    equal(trailing(error)["x-error-code"], "upstream_connect_failed")
    id = trailing(error)["x-request-id"]
    lines = await eventually(lambda: [l for l in side.gateway.lines() if l["request_id"] == id])
    line = {k: lines[0][k] for k in ["protocol", "status_code", "grpc_status", "reason"]}
    want = {"protocol": "HTTP/2", "status_code": 200, "grpc_status": 14}
    equal(line, {**want, "reason": "upstream_connect_failed"})


async def the_circuit(side):
    """What the service says in trailers opens it; then the gateway answers."""
    sick = side.call("unary_unary", "Sick", "Sick")
    for _ in range(5):
        error = await side.refused(sick(b""))
        equal((error.code(), error.details()), (S.UNAVAILABLE, "sick"))
    error = await side.refused(sick(b""))
    equal(error.code(), S.UNAVAILABLE)
    equal(trailing(error)["x-error-code"], "circuit_open")
    assert int(trailing(error)["grpc-retry-pushback-ms"]) > 0


async def pauses(side):
    """A client that has nothing to say for a while is no slow one; the default rate counts after 5 s."""

    async def paused(service):
        call = side.call("stream_stream", "Chat", service)()
        await call.write(b"before")
        equal(await call.read(), b"before")
        await asyncio.sleep(7)
        await call.write(b"behind")
        equal(await call.read(), b"behind")
        await call.done_writing()
        equal(await call.code(), S.OK)

    await asyncio.gather(paused("Open"), paused("Stream"))


async def many(side, calls, service="Open"):
    """Forty at a time over four connections; not one may fail."""
    channels = [side.dial() for _ in range(4)]
    left = iter(range(calls))
    errors = []

    async def work(channel):
        echo = side.call("unary_unary", "Echo", service, channel)
        for n in left:
            try:
                equal(await echo(b"%d" % n), b"%d" % n)
            except (grpc.aio.AioRpcError, AssertionError) as error:
                errors.append(error)

    await asyncio.gather(*(work(channels[n % 4]) for n in range(40)))
    for channel in channels:
        await channel.close()
    assert not errors, f"{len(errors)} of {calls} failed, the first: {errors[0]!r}"


async def connections_that_age(side, calls):
    """The service sends its connections away (GOAWAY) all the time."""
    peers = side.service.peers
    peers.clear()
    ends = time.monotonic() + PATIENCE
    await many(side, calls, "Ageing")
    # Each of two workers has one, again and again. A fast machine is through before one is old.
    while len(peers) <= 2:
        assert time.monotonic() < ends, f"none was sent away: {peers}"
        await many(side, calls, "Ageing")


async def a_drain(side):
    """A call under way goes on while the gateway drains, to its end."""
    call = side.call("stream_stream", "Chat", "Stream")()
    await call.write(b"before")
    equal(await call.read(), b"before")
    side.gateway.drain()
    for n in range(20):
        await call.write(b"%d" % n)
        equal(await asyncio.wait_for(call.read(), PATIENCE), b"%d" % n)
        await asyncio.sleep(0.05)
    await call.done_writing()
    equal(await call.read(), grpc.aio.EOF)
    equal(await call.code(), S.OK)
    equal(await side.gateway.ended(), 0)


CASES = [
    unary,
    metadata,
    server_stream,
    client_stream,
    both_streams,
    large_messages,
    failures_pass,
    clients_deadline,
    gateways_deadline,
    cancellation,
    credentials,
    limits,
    sizes,
    nowhere,
    the_circuit,
]
