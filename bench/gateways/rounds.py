"""The rounds: under every workload every gateway in turn, each time freshly started, and what it used a request."""

import re
import shutil

import blast
import gateway
import measure
import process

# Of answers under `refused`, those that must be refusals; the rest is what the limit lets pass.
REFUSED = 0.99
H2_CONNECTIONS, H2_STREAMS = 8, 8
TLS_OPTIONS = {"tls-new": ["--tls", "--new-connections"], "tls-keep": ["--tls"]}


def limit(workload):
    """Requests a minute under load."""
    return 1 if workload == "refused" else gateway.UNLIMITED


class Rounds:
    """Measures cells."""

    def __init__(self, ground, tool, seconds, warm_up, busy):
        self.ground, self.tool, self.seconds, self.warm_up = ground, tool, seconds, warm_up
        # Less of its core than this, and the load was not the one that never waits.
        self.busy = busy

    def measure(self, kind, workload):
        """The figures of one cell in one round; `void` says why they do not count."""
        try:
            figures = self.once(kind, workload)
            if figures["void"] and "of its core" in figures["void"]:
                figures = self.once(kind, workload)
        except gateway.Missing as missing:
            return {"void": str(missing)}
        return figures

    def once(self, kind, workload):
        cell = self.ground.cell(kind, workload, limit(workload))
        try:
            return (self.over_h2 if workload == "h2" else self.over_http1)(kind, cell)
        finally:
            shutil.rmtree(cell.dir, ignore_errors=True)

    def over_http1(self, kind, cell):
        seconds = min(self.seconds, blast.FRESH_SECONDS) if cell.workload == "fresh" else self.seconds
        requests = self.tool.requests(self.ground.shared, cell.workload, seconds + self.warm_up)
        options = ["--connections", blast.CONNECTIONS, "--seconds", seconds, "--warm-up", self.warm_up]
        with self.tool.load(cell, requests, *options, *TLS_OPTIONS.get(cell.workload, [])) as load:
            load.until("listening")
            with process.Started(kind, cell) as started:
                load.go()
                load.until("begin")
                before = measure.tasks(started.pids())
                load.until("end", self.seconds + 30)
                after = measure.tasks(started.pids())
                result = load.result()
                figures = self.figures(result, before, after, started)
        figures["void"] = void(cell.workload, result, self.busy)
        return figures

    def over_h2(self, kind, cell):
        """With h2load, which waits like others, as the origin then does: they share the core."""
        argv = ["h2load", "-t1", f"-c{H2_CONNECTIONS}", f"-m{H2_STREAMS}", f"-D{max(1, round(self.seconds))}",
                f"--warm-up-time={max(1, round(self.warm_up))}", f"https://127.0.0.1:{cell.port}/api/items"]
        with self.tool.origin(cell.origins) as origin:
            origin.until("ready")
            with process.Started(kind, cell) as started, blast.Running(argv) as load:
                load.until("Main benchmark duration is started")
                before = measure.tasks(started.pids())
                load.until("Main benchmark duration is over", self.seconds + 30)
                after = measure.tasks(started.pids())
                result = h2load_result(load, max(1, round(self.seconds)))
                figures = self.figures(result, before, after, started)
        figures["void"] = void(cell.workload, result, self.busy)
        return figures

    @staticmethod
    def figures(result, before, after, started):
        used = measure.used(before, after)
        each = 1e6 / max(result["requests"], 1)
        return {
            "requests": result["requests"],
            "seconds": result["seconds"],
            "rate": result["requests"] / result["seconds"],
            "cpu_us": used["total"] * each,
            "user_us": used["user"] * each,
            "kernel_us": used["kernel"] * each,
            "gateway_busy": used["total"] / result["seconds"],
            "gateway_waited": used["waited"] / result["seconds"],
            "load_busy": result["busy"],
            "statuses": result["statuses"],
            "errors": result["errors"],
            "reconnects": result["reconnects"],
            "latency_us": result["latency_us"],
            "memory_kib": measure.memory(started.pids()),
        }


def h2load_result(load, seconds):
    """What h2load prints at its end, in the form of blast's."""
    text = load.process.stdout.read()
    counts = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", text)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if not counts or not codes:
        raise gateway.Missing(f"h2load told nothing: {text[-200:]!r}")
    statuses = {f"{n}xx": int(count) for n, count in enumerate(codes.groups(), 2) if int(count)}
    return {
        "requests": int(counts[2]), "seconds": float(seconds), "busy": None, "errors": int(counts[3]) + int(counts[4]),
        "reconnects": 0, "statuses": statuses, "latency_us": None,
    }


def void(workload, result, busy=0.0):
    """Why a round of a cell does not count; None if it does."""
    statuses, total = result["statuses"], result["requests"]
    if not total:
        return "no request was answered"
    if result["errors"]:
        return f"{result['errors']} requests broke"
    wrong = {status: n for status, n in statuses.items() if status not in ("200", "2xx")}
    if workload == "refused":
        refusals = wrong.pop("429", 0)
        if refusals / total < REFUSED:
            return f"only {refusals} of {total} were refused"
    if wrong:
        return f"answers that must not be: {wrong}"
    if result["busy"] is not None and result["busy"] < busy:
        return f"the load had {result['busy']:.1%} of its core"
    if workload == "fresh" and result.get("wrapped"):
        return "tokens were used twice"
    return None
