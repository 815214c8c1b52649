"""Whether Tollgate's work a request grows with what it holds: routes, clients that are counted, workers."""

import random
import shutil
import subprocess
import time

import blast
import gateway
import instructions
import process

ROUTES, CLIENTS = (10, 10_000), (10, 1_000_000)
ASKED = 3_000
# The part of a run that only fills Tollgate with clients is not counted, and is fast for that.
SILENT = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=callgrind.%p"]


def routes(ground, tool, kind):
    """Instructions a request with few routes and with many, each asked for at random."""
    found = {}
    for count in ROUTES:
        file = ground.shared / f"routes-{count}.requests"
        chosen = random.Random(count).choices(range(count), k=ASKED)
        file.write_text("".join(blast.get(f"/r{n}/items") for n in chosen))
        found[str(count)] = instructions.count(ground, tool, kind, "plain", prepared=file, extra={"routes": count})
    return found


def clients(ground, tool, kind):
    """Instructions a request with few clients counted and with many, by their addresses."""
    found = {}
    for count in CLIENTS:
        try:
            found[str(count)] = {"each": among(ground, tool, kind, count), "void": None}
        except gateway.Missing as missing:
            found[str(count)] = {"void": str(missing)}
    return found


def client(n):
    return blast.get("/api/items", f"X-Forwarded-For: 10.{n >> 16}.{n >> 8 & 255}.{n & 255}")


def among(ground, tool, kind, count):
    """Instructions of a request among so many clients that were all there before."""
    cell = ground.cell(kind, "plain", gateway.UNLIMITED, extra={"clients": count})
    every, some = cell.dir / "every.requests", cell.dir / "some.requests"
    with open(every, "w") as out:
        out.writelines(client(n) for n in range(count))
    some.write_text("".join(client(n) for n in random.Random(count).choices(range(count), k=ASKED)))
    try:
        with process.Started(kind, cell, before=SILENT, patience=60) as started:
            asked(tool, cell, every, count)
            pid = started.process.pid
            control("-i", "on", pid)
            asked(tool, cell, some, ASKED)  # what runs for the first time is translated
            control("-d", pid)
            for file in cell.dir.glob("callgrind.*"):
                file.unlink()
            asked(tool, cell, some, ASKED)
            control("-d", pid)
            return instructions.collected(cell.dir) / ASKED
    finally:
        shutil.rmtree(cell.dir, ignore_errors=True)


def asked(tool, cell, file, count):
    with tool.load(cell, file, "--connections", blast.CONNECTIONS, "--count", count) as load:
        load.until("listening")
        load.go()
        result = load.result(900)
    if set(result["statuses"]) != {"200"} or result["errors"]:
        raise gateway.Missing(f"answers that must not be: {result['statuses']}, {result['errors']} errors")


def control(*words):
    """Tells the callgrind that runs something; it hears it between two pieces of work."""
    try:
        subprocess.run(["callgrind_control", *map(str, words)], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise gateway.Missing(f"callgrind_control: {error}") from error
    time.sleep(0.5)


def workers(ground, tool, kind):
    """Instructions a request with one worker and with two."""
    return {
        workload: {str(n): instructions.count(ground, tool, kind, workload, workers=n) for n in (1, 2)}
        for workload in ("plain", "full")
    }
