"""Latency in an open loop: requests are due at even distances, and count from then, whatever the gateway does."""

import shutil

import blast
import gateway
import process
import rounds

# What is told of a run, in microseconds.
PERCENTILES = ("p50", "p90", "p99")


def measure(ground, tool, kind, workload, rate, seconds):
    """Percentiles of one gateway at a rate; `kind` None asks the origin itself."""
    cell = ground.cell(kind or Direct(), workload, rounds.limit(workload))
    requests = tool.requests(ground.shared, workload, seconds)
    options = ["--connections", blast.CONNECTIONS, "--rate", rate, "--seconds", seconds, "--warm-up", 1]
    try:
        if kind is None:
            cell.port = cell.origins["v1"]
        with tool.load(cell, requests, *options) as load:
            load.until("listening")
            if kind is None:
                return asked(load, workload, rate, seconds)
            with process.Started(kind, cell):
                return asked(load, workload, rate, seconds)
    except gateway.Missing as missing:
        return {"void": str(missing)}
    finally:
        shutil.rmtree(cell.dir, ignore_errors=True)


class Direct(gateway.Gateway):
    """No gateway at all."""

    name = "direct"


def asked(load, workload, rate, seconds):
    load.go()
    result = load.result(seconds + 30)
    why = rounds.void(workload, result)
    if not why and result["requests"] < 0.98 * rate * seconds:
        why = f"only {result['requests'] / seconds:.0f} of {rate:.0f} a second were answered"
    slices = result["slices_us"]
    spread = {name: [min(one[name] for one in slices), max(one[name] for one in slices)] for name in PERCENTILES if slices}
    return {**result["latency_us"], "spread": spread, "rate": rate, "load_busy": result["busy"], "void": why}
