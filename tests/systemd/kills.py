"""Ends that nobody asked for: SIGKILL at random moments, some amid a reload or an upgrade; a process that hangs; and
one stop that was asked for while a predecessor drains."""

import asyncio
import os
import random
import signal
import time
import urllib.request

from checks import Report, eventually
from clients import stuff
from http1 import Connection
from load import PLAIN
from machine import CONFIG, Machine
from upgrades import MARGIN, Upgrades

WRONG = {"status", "body", "protocol", "close"}  # what a client may not see even then
SERVES_AGAIN = 10.0  # seconds


def healthy(address: str = PLAIN) -> bool:
    """Whether it serves."""
    try:
        with urllib.request.urlopen(f"http://{address}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Kills:
    """The ends."""

    def __init__(self, machine: Machine, report: Report, upgrades: Upgrades) -> None:
        self.machine = machine
        self.report = report
        self.upgrades = upgrades

    def story(self, times: int) -> None:
        """SIGKILL, many times, every second one amid something."""
        midway = 0
        for number in range(times):
            amid = ["", "reload", "", "upgrade"][number % 4]
            if amid:
                midway += self.amid(amid)
            else:
                time.sleep(random.uniform(0.3, 1.5))
                self.kill("plain")
            self.alone()
        self.report.check("SIGKILLs that came amid a reload or an upgrade", midway > 0, midway)

    def amid(self, what: str) -> bool:
        """One while a command runs, which takes some hundredths of a second; whether it came before the command's end."""
        restarts, main = int(self.machine.show("NRestarts")), self.machine.main_pid()
        victim = self.machine.service_pids().get(main)
        if not victim:
            return not self.report.check("there is a main process", False, main)
        command = self.machine.start("tollgate", what, "-c", CONFIG)
        time.sleep(random.uniform(0.0, 0.1))
        os.kill(victim, signal.SIGKILL)
        begun = time.time()
        command.communicate(timeout=90)
        eventually(lambda: self.machine.main_pid() not in (0, main), SERVES_AGAIN)
        if what == "upgrade" and int(self.machine.show("NRestarts")) == restarts:
            # It had handed over: the victim was a predecessor, and the new process has nothing to do with its end.
            self.report.check("SIGKILL of a predecessor harms nobody", eventually(healthy, 1), self.machine.main_pid())
            return False
        self.back(f"amid {what}", restarts, begun)
        return command.returncode != 0

    def kill(self, when: str) -> None:
        """One of whatever is the main process."""
        restarts = int(self.machine.show("NRestarts"))
        self.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "tollgate")
        self.back(when, restarts, time.time())

    def back(self, when: str, restarts: int, begun: float) -> None:
        """The service has to come back by itself."""

        def serves() -> bool:
            again = int(self.machine.show("NRestarts")) > restarts
            return again and self.machine.show("ActiveState") == "active" and healthy()

        came = eventually(serves, SERVES_AGAIN, 0.1)
        figure = f"{time.time() - begun:.1f} s, restart {self.machine.show('NRestarts')}"
        self.report.check(f"serves again after SIGKILL: {when}", came, figure if came else figure + self.machine.journal())
        once = int(self.machine.show("NRestarts")) - restarts
        self.report.check("one restart for one SIGKILL", once == 1, once)
        if not came:
            self.machine.run("systemctl", "restart", "tollgate")  # so that the rest is about the rest

    def alone(self) -> None:
        """No orphans. After an upgrade that was faster than the signal, a predecessor may drain."""

        def only() -> bool:
            return list(self.machine.service_pids()) == [self.machine.main_pid()]

        patience = self.upgrades.drain_max + MARGIN
        self.report.check("no orphan", eventually(only, patience, 0.2), f"{list(self.machine.service_pids())}, main {self.machine.main_pid()}")

    def sound(self) -> None:
        """After all of that it can be reloaded and upgraded as ever."""
        self.upgrades.reload()
        self.upgrades.upgrade()
        self.upgrades.join()

    def hang(self) -> None:
        """A process that does nothing any more is found by the watchdog."""
        old = self.machine.main_pid()
        self.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "tollgate")
        begun = time.time()
        came = eventually(lambda: self.machine.main_pid() not in (0, old) and healthy(), 60, 0.5)
        self.report.check("the watchdog ends a process that hangs", came, f"{time.time() - begun:.0f} s")

    def orphaned(self) -> None:
        """The main process dies while its predecessor drains: nobody may wait for the predecessor's end."""

        async def play() -> None:
            connection = await Connection.open(PLAIN)
            await connection.send("GET", f"/origin/trickle?seconds={self.upgrades.drain_max:.0f}&size=100000&seed=1")
            await connection.head()
            await asyncio.to_thread(self.upgrades.upgrade)
            await asyncio.to_thread(self.kill, "a predecessor drains")
            await connection.close()

        asyncio.run(play())
        self.alone()
        self.upgrades.join()

    def stop(self) -> None:
        """`systemctl stop` waits for everything in flight, a predecessor's too."""

        async def download(seed: int, share: float) -> tuple[Connection, asyncio.Task]:
            connection = await Connection.open(PLAIN)
            seconds = self.upgrades.drain_max * share
            await connection.send("GET", f"/origin/trickle?seconds={seconds:.0f}&size=100000&seed={seed}")
            _, headers = await connection.head()
            return connection, asyncio.create_task(connection.body(headers))

        async def play() -> None:
            first, old = await download(1, 0.6)
            await asyncio.to_thread(self.upgrades.upgrade)
            second, new = await download(2, 0.3)
            begun = time.time()
            done = await asyncio.to_thread(self.machine.run, "systemctl", "stop", "tollgate")
            took = time.time() - begun
            ends = await asyncio.gather(old, new, return_exceptions=True)
            whole = [end == stuff(seed, 100000) for seed, end in ((1, ends[0]), (2, ends[1]))]
            self.report.check("stop lets the predecessor's download finish", whole[0], repr(ends[0])[:120] if not whole[0] else f"{took:.0f} s")
            self.report.check("stop lets the main process's download finish", whole[1], repr(ends[1])[:120] if not whole[1] else f"{took:.0f} s")
            self.report.check("stop", done.returncode == 0 and self.machine.show("ActiveState") == "inactive", f"{self.machine.show('Result')} {done.stderr}")
            for connection in (first, second):
                await connection.close()

        asyncio.run(play())
        left = self.machine.service_pids()
        self.report.check("nothing is left after a stop", not left, left)
        self.report.check("its runtime folder is gone after a stop", not self.machine.has("/run/tollgate"))
        started = self.machine.run("systemctl", "start", "tollgate")
        self.report.check("starts after a stop", started.returncode == 0 and healthy(), started.stderr)
        self.upgrades.join()
