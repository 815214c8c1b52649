"""Reloads and upgrades while it serves, and upgrades that have to fail without harm."""

import json
import re
import threading
import time

from checks import Report, eventually
from load import PORTS
from machine import CONFIG, Machine, alive, listening

MARGIN = 15.0  # seconds over `drain.max` in which a predecessor has to be gone
GOOD = "/root/tollgate-good"  # the command line as it should be, while /usr/bin/tollgate is something else


class Upgrades:
    """The gateway's comings and goings."""

    def __init__(self, machine: Machine, report: Report, config: str, drain_max: float) -> None:
        self.machine = machine
        self.report = report
        self.config = config
        self.drain_max = drain_max
        self.generation = 0
        self.listeners: dict[int, int] = {}
        self.leaving: list[threading.Thread] = []

    def begin(self) -> None:
        """The test's own config instead of the packaged one, from a fresh start."""
        self.machine.put(CONFIG, self.config)
        done = self.machine.run("systemctl", "restart", "tollgate")
        self.report.check("starts with the test's config", done.returncode == 0, done.stderr + ("" if done.returncode == 0 else self.machine.journal()))
        self.listeners = listening(PORTS)
        self.report.check("listens on every port", all(self.listeners.values()), self.listeners)

    def reload(self) -> None:
        """A changed config, taken up in one of three ways."""
        self.generation += 1
        self.machine.put(CONFIG, self.config.replace("generation-0", f"generation-{self.generation}"))
        ways = [
            ("systemctl", "reload", "tollgate"),
            ("tollgate", "reload", "-c", CONFIG),
            ("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "tollgate"),
        ]
        way = ways[self.generation % len(ways)]
        done = self.machine.run(*way)
        self.report.check("reloads", done.returncode == 0, f"{self.generation} {' '.join(way)}: {done.stderr}")
        taken = eventually(lambda: "nothing" in self.machine.run("tollgate", "diff", "-c", CONFIG).stdout, every=0.2)
        self.report.check("a reload is taken up", taken, self.generation)

    def upgrade(self, command: str = "tollgate") -> None:
        """One that has to succeed."""
        old = self.machine.main_pid()
        old_outer = self.machine.service_pids().get(old, 0)
        begun = time.time()
        done = self.machine.run(command, "upgrade", "-c", CONFIG)
        took = time.time() - begun
        said = re.findall(r"\d+", done.stdout)
        new = eventually(lambda: self.machine.main_pid() != old and self.machine.main_pid(), 5)
        ok = self.report.check("upgrades", done.returncode == 0, f"{took:.1f} s {done.stdout} {done.stderr}")
        self.report.check("MainPID is the new process", bool(new) and str(new) in said, f"{old} -> {new}, said {done.stdout.strip()}")
        self.steady()
        if ok and old_outer:
            self.watch(old_outer)

    def steady(self) -> None:
        """What holds at all times."""
        self.report.check("the service is active", eventually(lambda: self.machine.show("ActiveState") == "active", 5), self.machine.show("ActiveState"))
        one = eventually(lambda: listening(PORTS) == self.listeners, 10)
        self.report.check("one set of listeners", one, f"{listening(PORTS)}, at the start {self.listeners}")

    def watch(self, outer: int) -> None:
        """A predecessor has to be gone in time; looked at beside everything else."""
        begun = time.time()

        def look() -> None:
            eventually(lambda: not alive(outer), self.drain_max + MARGIN, 0.2)
            self.report.check("a predecessor ends in time", not alive(outer), f"{time.time() - begun:.0f} s")

        self.leaving.append(threading.Thread(target=look))
        self.leaving[-1].start()

    def join(self) -> None:
        """Waits for the last predecessor; then one process is left."""
        for thread in self.leaving:
            thread.join()
        self.leaving.clear()
        main = self.machine.main_pid()
        alone = eventually(lambda: list(self.machine.service_pids()) == [main], 5)
        self.report.check("nothing is left but the main process", alone, f"{list(self.machine.service_pids())}, main {main}")

    def story(self, upgrades: int, reloads: int, every: float) -> None:
        """Spread over the time: some reloads, an upgrade, and again."""
        before = self.machine.show("NRestarts")
        for number in range(upgrades):
            share = reloads * (number + 1) // upgrades - reloads * number // upgrades
            begun = time.time()
            for step in range(share):
                self.reload()
                time.sleep(max(0.0, begun + every * (step + 1) / (share + 1) - time.time()))
            self.upgrade()
            time.sleep(max(0.0, begun + every - time.time()))
        self.report.check("no restarts by systemd", self.machine.show("NRestarts") == before, self.machine.show("NRestarts"))
        self.told()

    def told(self) -> None:
        """The process of an upgrade, which systemd did not start, is heard by its journal as any."""
        said = self.machine.run("journalctl", "--unit", "tollgate", f"_PID={self.machine.main_pid()}", "--output=json", "--lines=1").stdout
        fields = json.loads(said) if said else {}
        good = {"PRIORITY", "TARGET", "VERSION"} <= fields.keys()
        self.report.check("the new process writes to the journal, with fields", good, fields.get("MESSAGE", said))
        # Of a process that is not its child systemd learns the end late or not at all.
        strange = self.machine.journal(100_000).count("not our child")
        self.report.check("the new process is systemd's child when it becomes the main one", strange == 0, f"{strange} times not")

    def faulty(self) -> None:
        """Binaries and configs that cannot serve. Whatever is tried, who serves goes on serving."""
        good = (self.machine.tree / "usr/bin/tollgate").read_bytes()
        self.machine.put(GOOD, good, 0o755)
        taken = self.config.replace('"127.0.0.1:880"', '"127.0.0.1:18100"')
        cases = [
            ("a binary that crashes", b"#!/bin/sh\necho 'out of luck' >&2\nexit 3\n", self.config, 1),
            ("a binary that hangs", b"#!/bin/sh\nexec sleep 1000\n", self.config, 1),
            ("a binary that is none", b"\0nothing to run\n", self.config, 1),
            ("a config with a fault", good, self.config.replace("workers:", "wrokers:"), 64),
            ("a port that is taken", good, taken, 1),
        ]
        for name, binary, config, code in cases:
            main = self.machine.main_pid()
            before = set(self.machine.service_pids())
            self.machine.put("/usr/bin/tollgate", binary, 0o755)
            self.machine.put(CONFIG, config)
            begun = time.time()
            done = self.machine.run(GOOD, "upgrade", "-c", CONFIG, "--timeout", "5s", timeout=30)
            took = time.time() - begun
            refused = done.returncode == code and bool(done.stderr.strip()) and took < 15
            self.report.check(f"refused: {name}", refused, f"code {done.returncode} after {took:.1f} s: {done.stderr.strip()}")
            self.report.check("MainPID is the same after it", self.machine.main_pid() == main, f"{name}: {main} -> {self.machine.main_pid()}")
            alone = eventually(lambda: set(self.machine.service_pids()) <= before, 10)
            self.report.check("nothing is left of the failed process", alone, f"{name}: {set(self.machine.service_pids()) - before}")
            self.steady()
        self.machine.put("/usr/bin/tollgate", good, 0o755)
        self.machine.put(CONFIG, self.config)
        self.reload()
        self.upgrade()
