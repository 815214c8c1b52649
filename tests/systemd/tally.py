"""What clients saw: counts by kind of client, and every failure with its time and cause."""

import time

KEPT = 200  # failures whose details are kept


class Broken(Exception):
    """Something that a client must never see."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail


class Tally:
    """One for all clients of a process."""

    def __init__(self) -> None:
        self.ok: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.failures: list[dict] = []
        self.last_ok = time.time()
        self.outage = 0.0  # the longest time in which nothing succeeded
        self.ending = False  # nothing new is asked: a pause means nothing any more

    def good(self, kind: str) -> None:
        """An exchange that was as it has to be."""
        now = time.time()
        if not self.ending:
            self.outage = max(self.outage, now - self.last_ok)
        self.last_ok = now
        self.ok[kind] = self.ok.get(kind, 0) + 1

    def note(self, what: str) -> None:
        """What is allowed and worth a number, such as an announced close."""
        self.seen[what] = self.seen.get(what, 0) + 1

    def bad(self, kind: str, broken: Broken) -> None:
        """A failure."""
        key = f"{kind} {broken.cause}"
        self.failed[key] = self.failed.get(key, 0) + 1
        if len(self.failures) < KEPT:
            self.failures.append({"at": round(time.time(), 3), "kind": kind, "cause": broken.cause, "detail": broken.detail})

    def report(self) -> dict:
        """All of it, for JSON."""
        return {
            "ok": sum(self.ok.values()),
            "failed": sum(self.failed.values()),
            "ok_by_kind": self.ok,
            "failed_by_kind_and_cause": self.failed,
            "seen": self.seen,
            "longest_outage_s": round(self.outage, 3),
            "failures": self.failures,
        }
