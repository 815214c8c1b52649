"""Real gRPC (grpcio) through the gateway: `run.py GATEWAY [--calls N]`.

A grpcio client speaks to the gateway and the gateway to a grpcio server, without TLS (h2c) and with
it on both sides. Exits 0 only if every case held.
"""

import argparse
import asyncio
import pathlib
import socket
import sys
import tempfile
import time
import traceback

import grpc

import cases
from gateway import TLS, Gateway
from service import Service, serve

# Connections of the ageing service are sent away after this many milliseconds.
AGE = [("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 5000)]


def read(name):
    return (TLS / name).read_bytes()


async def played(side, calls):
    """Plays every case; yields its name, what was wrong, and how long it took."""
    counted = [
        ("many", lambda side: cases.many(side, calls)),
        ("connections_that_age", lambda side: cases.connections_that_age(side, calls)),
    ]
    # It waits most of the time, and nobody has to wait for it.
    pauses = asyncio.ensure_future(timed("pauses", cases.pauses(side)))
    for name, case in [(case.__name__, case) for case in cases.CASES] + counted:
        yield await timed(name, case(side))
    yield await pauses


async def timed(name, case):
    began, wrong = time.monotonic(), None
    try:
        await asyncio.wait_for(case, 600)
    except Exception:
        wrong = traceback.format_exc()
    return name, wrong, time.monotonic() - began


def told(flavour, name, wrong, took):
    print(f"{'ok   ' if wrong is None else 'WRONG'} {flavour:6} {name} ({took:.2f} s)", flush=True)
    if wrong is not None:
        print(wrong, file=sys.stderr, flush=True)
    return wrong is None


async def main(binary, calls, folder):
    service, servers, flavours = Service(), [], {}
    secure = grpc.ssl_server_credentials([(read("users.key"), read("users.pem"))])
    for name, credentials in [("plain", None), ("secure", secure)]:
        steady = await serve(service, credentials)
        ageing = await serve(service, credentials, AGE)
        servers += [steady[0], ageing[0]]
        flavours[name] = (steady[1], ageing[1])
    with socket.socket() as nobody:
        # Bound and never listening: whoever connects is refused.
        nobody.bind(("127.0.0.1", 0))
        gateway = await Gateway.start(binary, folder, flavours, nobody.getsockname()[1])
        try:
            results = await both_sides(service, gateway, calls)
        finally:
            await gateway.stop()
    for server in servers:
        await server.stop(None)
    passed, failed = results.count(True), results.count(False)
    print(f"grpc: {passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


async def both_sides(service, gateway, calls):
    trust = grpc.ssl_channel_credentials(read("internal-ca.pem"))
    name = ("grpc.ssl_target_name_override", "api.example.com")
    address = {flavour: f"127.0.0.1:{port}" for flavour, port in gateway.ports.items()}

    def plain(options):
        return grpc.aio.insecure_channel(address["plain"], options)

    def secure(options):
        return grpc.aio.secure_channel(address["secure"], trust, [*options, name])

    results, side = [], None
    for flavour, dial in [("plain", plain), ("secure", secure)]:
        side = cases.Side(flavour, dial, service, gateway)
        async for case in played(side, calls):
            results.append(told(flavour, *case))
    results.append(told("secure", *await timed("a_drain", cases.a_drain(side))))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gateway", type=pathlib.Path)
    parser.add_argument("--calls", type=int, default=500, help="of each of the two long cases")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        code = asyncio.run(main(wanted.gateway.resolve(), wanted.calls, pathlib.Path(folder)))
    sys.exit(code)
