"""Plays the whole story on a booted machine: install, reload, upgrade, fail, stop, kill, package, remove.

Started by `run`, which makes the machine. One table at the end; exits 1 if any check failed.
"""

import argparse
import traceback
from pathlib import Path

from checks import Report
from kills import WRONG, Kills
from load import HERE, Load, start_origin
from machine import Machine
from packages import Packages
from upgrades import Upgrades


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leader", type=int, required=True, help="the machine's init, in our process numbers")
    parser.add_argument("--tree", type=Path, required=True)
    parser.add_argument("--cgroup", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where logs and reports go")
    parser.add_argument("--debs", required=True, help="the folder of packages in the machine")
    parser.add_argument("--k6", required=True)
    parser.add_argument("--upgrades", type=int, required=True)
    parser.add_argument("--reloads", type=int, required=True)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--every", type=float, required=True, help="seconds from upgrade to upgrade")
    parser.add_argument("--drain-max", type=float, required=True)
    parser.add_argument("--without", nargs="*", default=[], help="kinds of clients to leave out")
    return parser.parse_args()


class Story:
    """All phases, in order."""

    def __init__(self, how: argparse.Namespace) -> None:
        self.how = how
        self.report = Report()
        self.machine = Machine(how.leader, how.tree, how.cgroup)
        config = (HERE / "gateway.yaml").read_text(encoding="utf-8").replace("max: 50s", f"max: {how.drain_max:.0f}s")
        self.upgrades = Upgrades(self.machine, self.report, config, how.drain_max)
        self.packages = Packages(self.machine, self.report, how.debs)
        self.kills = Kills(self.machine, self.report, self.upgrades)
        self.seen: dict[str, dict] = {}

    def load(self, name: str, others: bool = True) -> Load:
        """Clients, whose longest downloads fit into a drain."""
        longest = self.how.drain_max * 0.9
        return Load(self.how.work, name, self.how.k6, others, (longest * 0.4, longest), tuple(self.how.without))

    def certificates(self) -> None:
        """The test's own, for the gateway to read and for nobody else."""
        for name in ("api-ecdsa.pem", "api-ecdsa.key"):
            self.machine.put(f"/etc/tollgate/tls/{name}", (HERE / "../../conf/keys/tls" / name).read_bytes(), 0o640)
        self.machine.run("chown", "--recursive", "root:tollgate", "/etc/tollgate/tls")

    def under_load(self, name: str, *acts) -> None:
        """Acts during which no client may see a failure."""
        load = self.load(name)
        for act in acts:
            act()
        self.upgrades.join()
        self.seen[name] = load.judge(self.report, name)

    def play(self) -> None:
        """Everything."""
        how, report = self.how, self.report
        report.phase("install")
        self.packages.install()
        self.certificates()
        self.upgrades.begin()
        report.phase(f"{how.upgrades} upgrades and {how.reloads} reloads under load, then upgrades that fail")
        self.under_load("upgrades", lambda: self.upgrades.story(how.upgrades, how.reloads, how.every), self.upgrades.faulty)
        report.phase("stop while a predecessor drains")
        self.kills.stop()
        report.phase("packages under load")
        self.under_load("packages", lambda: self.packages.upgrade(self.upgrades))
        self.packages.changed_unit()
        report.phase(f"SIGKILL, {how.kills} times")
        self.killed()
        report.phase("remove and purge, then the archive")
        self.packages.remove()
        self.packages.archive()

    def killed(self) -> None:
        """Under load too, whose connections may break then; a wrong answer may never be given."""
        load = self.load("kills", others=False)
        self.kills.story(self.how.kills)
        seen = load.end()["clients"]
        causes = seen.get("failed_by_kind_and_cause", {})
        wrong = {cause: count for cause, count in causes.items() if cause.split()[-1] in WRONG}
        self.report.check("no wrong answer around SIGKILL", not wrong and seen["ok"] > 0, f"{seen['ok']} right, broken: {seen['failed']}, wrong: {wrong or 0}")
        self.seen["kills"] = {"clients": seen}
        self.kills.sound()
        self.kills.orphaned()
        self.kills.hang()


def main() -> None:
    """Plays, tells, exits."""
    how = arguments()
    story = Story(how)
    origin = start_origin(how.work)
    try:
        story.play()
    except BaseException as e:  # whatever it was, what was seen so far is told
        traceback.print_exc()
        story.report.check("the story was played to its end", False, repr(e))
    finally:
        origin.terminate()
    (how.work / "journal.txt").write_text(story.machine.journal(100_000), encoding="utf-8")
    story.report.table()
    story.report.write(str(how.work / "report.json"), {"clients": story.seen})
    print(f"\n{len(story.report.checks) - story.report.failed()} passed, {story.report.failed()} failed")
    raise SystemExit(1 if story.report.failed() else 0)


if __name__ == "__main__":
    main()
