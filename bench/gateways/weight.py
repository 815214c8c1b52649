"""Memory: of an idle connection, of a request in flight, and of the gateway under its load."""

import contextlib
import shutil
import time

import blast
import gateway
import measure
import process

IDLE, IN_FLIGHT = 10_000, 1_000


def weigh(ground, tool, kind, in_flight):
    """KiB a connection: after a request each, or while the origin lets each one wait."""
    count = IN_FLIGHT if in_flight else IDLE
    cell = ground.cell(kind, "plain", gateway.UNLIMITED)
    few, held = ground.shared / "plain.requests", ground.shared / "hang.requests"
    held.write_text(blast.get("/hang" if in_flight else "/api/items"))
    options = ["--in-flight"] if in_flight else []
    origins = blast.listens("--origin", cell.origins)
    try:
        tool.requests(ground.shared, "plain", 1)
        warm = ["--connections", blast.CONNECTIONS, "--count", 5_000]
        with contextlib.ExitStack() as stack:
            load = stack.enter_context(tool.load(cell, few, *warm))
            load.until("listening")
            started = stack.enter_context(process.Started(kind, cell))
            load.go()
            load.result()
            time.sleep(0.5)
            before = measure.memory(started.pids())
            holding = stack.enter_context(tool.hold(cell, held, count, *options, *origins))
            holding.until("ready", 60)
            time.sleep(1)
            after = measure.memory(started.pids())
    except gateway.Missing as missing:
        return {"void": str(missing)}
    finally:
        shutil.rmtree(cell.dir, ignore_errors=True)
    each = {f"{name}_kib": (after[name] - before[name]) / count for name in ("rss", "pss")}
    return {**each, "connections": count, "before_kib": before, "after_kib": after, "void": None}
