"""Instructions in user mode a request, counted by callgrind: two runs of different length, so that the start does not count."""

import re
import shutil

import blast
import gateway
import process
import rounds

CALLGRIND = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=callgrind.%p"]
# In the shorter run every token has been there once.
SHORT, LONG = 1_500, 4_500


def count(ground, tool, kind, workload, patience=60, **more):
    """Instructions a request, and what they were counted from; `void` says why there are none."""
    totals = {}
    for requests in (SHORT, LONG):
        try:
            totals[requests] = total(ground, tool, kind, workload, requests, patience, **more)
        except gateway.Missing as missing:
            return {"void": str(missing)}
    each = (totals[LONG] - totals[SHORT]) / (LONG - SHORT)
    return {"each": each, "totals": {str(n): value for n, value in totals.items()}, "void": None}


def total(ground, tool, kind, workload, requests, patience, prepared=None, **more):
    """Instructions of a gateway from its start to its end with so many requests."""
    cell = ground.cell(kind, workload, rounds.limit(workload), **more)
    file = prepared or tool.requests(ground.shared, workload, 1)
    try:
        with tool.load(cell, file, "--connections", blast.CONNECTIONS, "--count", requests) as load:
            load.until("listening")
            started = process.Started(kind, cell, before=CALLGRIND, patience=patience)
            try:
                load.go()
                result = load.result(patience + 60)
            finally:
                started.stop(patience=30)
        why = rounds.void(workload, {**result, "busy": None})
        if why and workload != "refused":
            raise gateway.Missing(why)
        return collected(cell.dir)
    finally:
        shutil.rmtree(cell.dir, ignore_errors=True)


def collected(folder):
    """The sum over all processes and parts."""
    found = 0
    for file in folder.glob("callgrind.*"):
        text = file.read_text(errors="replace")
        found += sum(int(n) for n in re.findall(r"^totals: (\d+)", text, re.MULTILINE))
    if not found:
        raise gateway.Missing("callgrind wrote no counts")
    return found
