"""Starting and ending what a cell needs: pinned, in a process group of its own, ended by its id."""

import itertools
import os
import random
import signal
import socket
import subprocess
import threading

import gateway

GATEWAY_CORE, LOAD_CORE = 0, 1


# Below those the kernel gives to outgoing connections, and each only once in a run.
NUMBERS = itertools.chain(range(random.randrange(12_000, 30_000), 32_000), range(10_000, 12_000))
ONE_AT_A_TIME = threading.Lock()


def free_ports(count):
    """Ports nobody listens on."""
    found = []
    with ONE_AT_A_TIME:
        for number in NUMBERS:
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    one.bind(("127.0.0.1", number))
                except OSError:
                    continue
            found.append(number)
            if len(found) == count:
                return found
    raise gateway.Missing("there are no free ports")


def pinned(*cores):
    """What goes before a command so that it runs on these cores, as far as there are any; on none: on all."""
    there = [core for core in cores if core < os.cpu_count()] or range(os.cpu_count())
    return ["taskset", "-c", ",".join(map(str, there))]


class Started:
    """A gateway that runs. Its output goes to `output.txt` in the cell's folder."""

    def __init__(self, kind, cell, core=GATEWAY_CORE, before=(), patience=20):
        self.kind, self.cell = kind, cell
        kind.configure(cell)
        argv = [*pinned(core), *before, *(str(part) for part in kind.command(cell))]
        env = {**os.environ, **{name: str(value) for name, value in kind.env(cell).items()}}
        with open(cell.dir / "output.txt", "wb") as output:
            self.process = subprocess.Popen(argv, cwd=cell.dir, env=env, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=output, start_new_session=True)
        up = gateway.wait_until(lambda: self.process.poll() is not None or kind.ready(cell), patience)
        if not up or self.process.poll() is not None:
            self.stop()
            raise gateway.Missing(f"does not start: {self.last_words()}")

    def last_words(self):
        lines = (self.cell.dir / "output.txt").read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])[-600:]

    def pids(self):
        return self.kind.pids(self.process.pid)

    def stop(self, patience=3):
        """In good order, and by force what is left of it."""
        ours = gateway.descendants(self.process.pid)
        try:
            self.process.send_signal(self.kind.stop_signal)
            self.process.wait(patience)
        except (OSError, subprocess.TimeoutExpired):
            pass
        for end in (self.process.pid, *ours):
            try:
                if end == self.process.pid:
                    os.killpg(end, signal.SIGKILL)
                elif os.getsid(end) == self.process.pid:
                    os.kill(end, signal.SIGKILL)
            except OSError:
                pass
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
