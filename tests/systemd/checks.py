"""What was checked: one table at the end, JSON beside it."""

import json
import time


class Report:
    """All checks of a run."""

    def __init__(self) -> None:
        self.checks: list[dict] = []
        self.started = time.time()

    def check(self, name: str, good: bool, figure: object = "") -> bool:
        """One check; what it says of itself is a figure or a reason."""
        self.checks.append({"name": name, "ok": bool(good), "figure": str(figure), "at_s": round(time.time() - self.started)})
        if not good:
            print(f"FAILED: {name}: {figure}", flush=True)
        return bool(good)

    def phase(self, name: str) -> None:
        """What comes next."""
        print(f"== {name} ({time.time() - self.started:.0f} s)", flush=True)

    def failed(self) -> int:
        """How many did not hold."""
        return sum(not check["ok"] for check in self.checks)

    def table(self) -> None:
        """All of them. Many of one name are one line: how many, and the first that failed or the last."""
        names = dict.fromkeys(check["name"] for check in self.checks)
        width = max(map(len, names))
        print(f"\n{'check':{width}}  times  result    figure")
        for name in names:
            same = [check for check in self.checks if check["name"] == name]
            bad = [check for check in same if not check["ok"]]
            shown = (bad or same[-1:])[0]
            result = f"FAILED {len(bad)}" if bad else "ok"
            print(f"{name:{width}}  {len(same):5}  {result:8}  {' '.join(shown['figure'].split())[:160]}")

    def write(self, path: str, more: dict) -> None:
        """The same as JSON."""
        whole = {"failed": self.failed(), "seconds": round(time.time() - self.started), "checks": self.checks} | more
        with open(path, "w", encoding="utf-8") as file:
            json.dump(whole, file, indent=1)


def eventually(what, seconds: float = 20.0, every: float = 0.05):
    """The first true value of a function, or its last."""
    end = time.time() + seconds
    while True:
        value = what()
        if value or time.time() > end:
            return value
        time.sleep(every)
