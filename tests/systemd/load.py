"""The load on the gateway: strict clients of our own, wrk and k6, all from outside the machine under test."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from checks import Report

HERE = Path(__file__).parent
PLAIN, TLS, H2C, LOW, ORIGIN = "127.0.0.1:18080", "127.0.0.1:18443", "127.0.0.1:18082", "127.0.0.1:880", "127.0.0.1:18100"
PORTS = {18080, 18443, 18082, 880}


def start_origin(work: Path) -> subprocess.Popen:
    """The service behind the gateway; it has said that it serves."""
    with open(work / "origin.err", "w", encoding="utf-8") as log:
        origin = subprocess.Popen([sys.executable, HERE / "origin.py", ORIGIN], stdout=subprocess.PIPE, stderr=log, text=True)
    if "serving" not in (origin.stdout.readline() if origin.stdout else ""):
        raise SystemExit((work / "origin.err").read_text(encoding="utf-8"))
    return origin


class Load:
    """Everything that asks. `others`: wrk and k6 too."""

    def __init__(self, work: Path, name: str, k6: str, others: bool, download: tuple[float, float], without: tuple[str, ...]) -> None:
        self.work = work
        self.name = name
        self.processes: dict[str, subprocess.Popen] = {}
        seconds = [str(s) for s in download]
        strict = [sys.executable, HERE / "clients.py", "--plain", PLAIN, "--tls", TLS, "--h2c", H2C, "--download", *seconds]
        self.start("clients", [*strict, "--without", *without, "--report", self.file("clients", "json")])
        if others:
            self.start("wrk", ["wrk", "-t1", "-c8", "-d7200s", "--timeout", "30s", "-s", HERE / "wrk.lua", f"http://{PLAIN}"])
            self.start("k6", [k6, "run", "--quiet", "--no-color", "--no-usage-report", "--address", "", "--summary-export", self.file("k6", "json"), HERE / "k6.js"])

    def file(self, program: str, kind: str) -> Path:
        """Where one of them writes."""
        return self.work / f"{self.name}-{program}.{kind}"

    def start(self, program: str, command: list) -> None:
        """Starts one of them."""
        with open(self.file(program, "log"), "w", encoding="utf-8") as log:
            self.processes[program] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def running(self) -> list[str]:
        """Which of them have ended by themselves, as none should."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def end(self) -> dict[str, dict]:
        """Ends them in order and reads what they saw."""
        early = self.running()
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for name, process in self.processes.items():
            try:
                process.wait(150)
            except subprocess.TimeoutExpired:
                process.kill()
                early.append(name)
        results = {"clients": self.clients(), "wrk": self.wrk(), "k6": self.k6()}
        results = {name: result for name, result in results.items() if name in self.processes}
        for name in early:
            results[name] = {"ok": 0, "failed": f"it ended by itself or would not end: {self.file(name, 'log')}"}
        return results

    def judge(self, report: Report, what: str) -> dict[str, dict]:
        """Ends them; nothing may have failed."""
        results = self.end()
        for name, result in results.items():
            good = result["failed"] == 0 and result["ok"] > 0
            causes = result.get("failed_by_kind_and_cause", "")
            report.check(f"{what}: failed of {name}", good, f"{result['failed']} of {result['ok']} {causes or ''}".strip())
        return results

    def clients(self) -> dict:
        """The strict ones."""
        path = self.file("clients", "json")
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"ok": 0, "failed": "no report"}

    def wrk(self) -> dict:
        """Its own count of errors, and wrong answers as its script saw them."""
        path = self.file("wrk", "log")
        found = re.search(r"^RESULT requests=(\d+) socket=(\d+) wrong=(\d+)", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else None
        if not found:
            return {"ok": 0, "failed": "no result"}
        requests, socket, wrong = map(int, found.groups())
        return {"ok": requests, "failed": socket + wrong, "socket_errors": socket, "wrong_answers": wrong}

    def k6(self) -> dict:
        """Checks that did not hold, and requests that failed."""
        path = self.file("k6", "json")
        if not path.exists():
            return {"ok": 0, "failed": "no report"}
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        failed = metrics.get("http_req_failed", {}).get("passes", 0)  # of a rate that counts failures
        return {"ok": metrics["http_reqs"]["count"], "failed": failed + metrics["checks"]["fails"]}
