"""The whole comparison, phase by phase, into one file of raw results from which the report is made."""

import datetime
import itertools
import json
import os
import pathlib
import re
import time

import blast
import field
import gateway
import instructions
import latency
import measure
import process
import rounds
import scaling
import weight

QUICK = {"rounds": 1, "seconds": 2.0, "minutes": 8, "busy": 0.99}
WHOLE = {"rounds": 5, "seconds": 8.0, "minutes": 90, "busy": 0.99}
# The part of its time that is left for the phases after the rounds.
RESERVE = 0.28
OPEN_WORKLOADS = ("plain", "full")
COUNTED = ("plain", "full", "refused")
# Seconds a cell takes besides being measured, as far as is not yet known.
AROUND = 2.5


def settings(quick, **given):
    """What holds for a run: the defaults of its kind, and what was given instead."""
    return {"quick": quick, **(QUICK if quick else WHOLE), **{k: v for k, v in given.items() if v is not None}}


def place():
    """The folder of results for today and this machine, which has no name in it."""
    machine = measure.machine()
    cpu = re.sub(r"[^A-Za-z0-9]+", "-", machine["cpu"]).strip("-")
    return gateway.ROOT / "bench" / "results" / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}-{cpu}-{machine['cores']}"


def commit():
    """What was measured, if the repository knows."""
    try:
        return gateway.run("git", "-C", gateway.ROOT, "rev-parse", "--short", "HEAD").strip()
    except gateway.Missing:
        return None


class Comparison:
    """A run of everything."""

    def __init__(self, kinds, versions, missing, workloads, chosen, out):
        self.kinds, self.workloads, self.settings = kinds, workloads, chosen
        self.out = pathlib.Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.begun = time.monotonic()
        self.ground, self.tool = field.Field(), blast.Blast()
        warm_up = 0.5 if chosen["quick"] else 1.0
        self.rounds = rounds.Rounds(self.ground, self.tool, chosen["seconds"], warm_up, chosen["busy"])
        self.results = {
            "begun": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
            "commit": commit(),
            "machine": measure.machine(),
            "settings": {**chosen, "warm_up": warm_up, "connections": blast.CONNECTIONS,
                         "fresh_seconds": blast.FRESH_SECONDS, "workloads": list(workloads)},
            "versions": versions,
            "missing": missing,
            "departures": {kind.name: list(kind.departures) for kind in kinds},
            "excused": {kind.name: dict(kind.excused) for kind in kinds},
            "skipped": [],
        }

    def run(self):
        """Every phase in turn. The file is written after each, so that nothing is lost if it is ended."""
        os.sched_setaffinity(0, {min(process.LOAD_CORE, os.cpu_count() - 1)})
        try:
            for phase in self.phases():
                phase()
                print(f"== {self.gone() / 60:.1f} minutes", flush=True)
                self.results["minutes"] = round(self.gone() / 60, 1)
                self.save()
        finally:
            self.ground.close()

    def phases(self):
        """What must not be missing comes first."""
        return self.parity, self.rounds_of_all, self.instructions, self.memory, self.latency, self.scaling

    def save(self):
        (self.out / "gateways.json").write_text(json.dumps(self.results, indent=1) + "\n")

    def gone(self):
        return time.monotonic() - self.begun

    def time_for(self, what, seconds):
        """Whether a step still fits; if not, that is noted."""
        fits = self.gone() + seconds < self.settings["minutes"] * 60
        if not fits:
            self.results["skipped"].append(what)
            print(f"no time left for: {what}", flush=True)
        return fits

    def cells(self, workloads=None):
        """Every cell of the table: workload by workload, every gateway that passed its parity check."""
        for workload, kind in itertools.product(workloads or self.workloads, self.kinds):
            passed = self.results["parity"].get(workload, {}).get(kind.name)
            if passed and not passed["faults"]:
                yield workload, kind

    def parity(self):
        print("== parity", flush=True)
        table = self.results["parity"] = {}
        for workload, kind in itertools.product(self.workloads, self.kinds):
            if workload not in kind.workloads:
                continue
            faults, excused = self.ground.parity(kind, workload)
            table.setdefault(workload, {})[kind.name] = {"faults": faults, "excused": excused}
            for fault in faults:
                print(f"VOID {workload} {kind.name}: {fault}", flush=True)

    def rounds_of_all(self):
        table = self.results["rounds"] = []
        each = len(list(self.cells())) * (self.settings["seconds"] + AROUND)
        for number in range(self.settings["rounds"]):
            if number and not self.time_for(f"round {number + 1}", each + self.settings["minutes"] * 60 * RESERVE):
                break
            print(f"== round {number + 1}", flush=True)
            before, row = self.gone(), {}
            table.append(row)
            for workload, kind in self.cells():
                figures = self.rounds.measure(kind, workload)
                row.setdefault(workload, {})[kind.name] = figures
                print(line(workload, kind, figures), flush=True)
            each = self.gone() - before
            self.save()

    def rate_of_open_loop(self, workload):
        """Half of what Envoy can, or Tollgate where Envoy is not there: the same for everybody."""
        for name in ("envoy", "tollgate"):
            found = [row[workload][name] for row in self.results["rounds"] if name in row.get(workload, {})]
            if counted := [figures["rate"] for figures in found if not figures["void"]]:
                return sorted(counted)[len(counted) // 2] / 2
        return None

    def latency(self):
        print("== latency", flush=True)
        table = self.results["latency"] = {}
        seconds = 2 if self.settings["quick"] else 6
        for workload in OPEN_WORKLOADS:
            half = self.rate_of_open_loop(workload)
            for rate in [half, 1000.0] if half else []:
                kinds = [None] * (workload == "plain") + [kind for _, kind in self.cells([workload])]
                for kind in kinds:
                    name = kind.name if kind else "direct"
                    if not self.time_for(f"latency of {name}, {workload}, {rate:.0f}/s", seconds + AROUND):
                        continue
                    found = latency.measure(self.ground, self.tool, kind, workload, rate, seconds)
                    which = "1000" if rate == 1000.0 else "half"
                    table.setdefault(workload, {}).setdefault(which, {})[name] = found

    def memory(self):
        print("== memory", flush=True)
        table = self.results["memory"] = {"idle": {}, "in_flight": {}}
        for _, kind in self.cells(["plain"]):
            for name in table:
                if self.time_for(f"memory of {kind.name}, {name}", 10):
                    table[name][kind.name] = weight.weigh(self.ground, self.tool, kind, name == "in_flight")

    def instructions(self):
        print("== instructions", flush=True)
        table = self.results["instructions"] = {}
        quick = self.settings["quick"]
        for workload, kind in self.cells(COUNTED):
            ours = kind.name in ("tollgate", "bare")
            if not kind.countable:
                table.setdefault(workload, {})[kind.name] = {"void": "callgrind does not run it"}
            elif (ours or not quick) and self.time_for(f"instructions of {kind.name}, {workload}", 25):
                found = instructions.count(self.ground, self.tool, kind, workload, patience=60)
                table.setdefault(workload, {})[kind.name] = found
                print(f"{workload:9} {kind.name:12} {found.get('void') or round(found['each'])}", flush=True)

    def scaling(self):
        print("== scaling", flush=True)
        table = self.results["scaling"] = {}
        for kind in self.kinds:
            if kind.name == "tollgate" and not self.settings["quick"]:
                for step, seconds in [(scaling.workers, 80), (scaling.routes, 80), (scaling.clients, 400)]:
                    if self.time_for(f"scaling with {step.__name__}", seconds):
                        table[step.__name__] = step(self.ground, self.tool, kind)


def line(workload, kind, figures):
    """One cell of one round, for whoever looks on."""
    if figures["void"]:
        return f"{workload:9} {kind.name:12} VOID: {figures['void']}"
    return (f"{workload:9} {kind.name:12} {figures['cpu_us']:7.2f} us of CPU ({figures['user_us']:.2f} user), "
            f"{figures['rate']:8.0f} a second, gateway {figures['gateway_busy']:.0%} busy")
