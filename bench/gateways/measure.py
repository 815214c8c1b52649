"""What a gateway uses, as the kernel counts it: CPU of all its threads, and memory of all its processes."""

import collections
import os
import pathlib
import re

Task = collections.namedtuple("Task", "ran waited user kernel")


def tasks(pids):
    """Of every thread: nanoseconds on a core and in wait of one, and ticks in user and kernel mode."""
    found = {}
    for pid in pids:
        try:
            threads = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            continue
        for thread in threads:
            try:
                ran, waited, _ = map(int, (thread / "schedstat").read_text().split())
                fields = (thread / "stat").read_text().rpartition(")")[2].split()
            except (OSError, ValueError):
                continue
            found[pid, thread.name] = Task(ran, waited, int(fields[11]), int(fields[12]))
    return found


def used(before, after):
    """Seconds of CPU between two looks: in all, in user mode, in the kernel; and seconds in wait of a core.

    The scheduler's clock counts nanoseconds, but only the ticks tell the modes apart: they give the shares.
    """
    none = Task(0, 0, 0, 0)
    sums = [sum(task[at] - before.get(name, none)[at] for name, task in after.items()) for at in range(4)]
    ran, waited, user, kernel = sums
    share = user / (user + kernel) if user + kernel else 0.0
    total = ran / 1e9
    return {"total": total, "user": total * share, "kernel": total * (1 - share), "waited": waited / 1e9}


def memory(pids):
    """KiB of all processes: resident now, resident at most, and without what they share."""
    sums = collections.Counter()
    for pid in pids:
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for name, pattern, text in [("rss", "VmRSS", status), ("peak", "VmHWM", status), ("pss", "Pss", rollup)]:
            if match := re.search(rf"^{pattern}:\s+(\d+)", text, re.MULTILINE):
                sums[name] += int(match[1])
    return dict(sums)


def machine():
    """What it ran on, without its name."""
    cpu = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
            break
    total = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_mib": int(total[1]) // 1024 if total else 0,
        "kernel": os.uname().release.split("-")[0],
    }
