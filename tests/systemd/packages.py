"""The Debian package: installed, upgraded while it serves, rolled back, removed, purged."""

import os
import urllib.error
import urllib.request
from pathlib import Path

from checks import Report, eventually
from machine import UNIT, Machine
from upgrades import Upgrades

PACKAGED = "127.0.0.1:8080"  # of the config that comes with it
EXPOSURE = 1.5  # the most that `systemd-analyze security` may say


def status(address: str, path: str) -> int:
    """Of a plain request; 0 without an answer."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as e:
        return e.code
    except OSError:
        return 0


class Packages:
    """`debs`: the folder in the machine with 1.deb (as built), 2.deb (newer), 3.deb (its unit changed), 4.deb (crashes)."""

    def __init__(self, machine: Machine, report: Report, debs: str) -> None:
        self.machine = machine
        self.report = report
        self.debs = debs

    def apt(self, number: int) -> str:
        """Installs one; what was said."""
        command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "--allow-downgrades", "--reinstall"]
        done = self.machine.run(*command, "--option=Dpkg::Options::=--force-confold", f"{self.debs}/{number}.deb")
        self.report.check("apt succeeds", done.returncode == 0, f"{number}.deb: {(done.stdout + done.stderr)[-600:] if done.returncode else 'ok'}")
        state = self.machine.run("dpkg-query", "--show", "--showformat=${Status}", "tollgate").stdout
        self.report.check("dpkg has it installed", state == "install ok installed", f"{number}.deb: {state}")
        return done.stdout + done.stderr

    def install(self) -> None:
        """On a machine that never had it: everything works as it comes."""
        said = self.apt(1)
        up = eventually(lambda: status(PACKAGED, "/health") == 200, 10, 0.2)
        self.report.check("packaged config: /health", up, said[-300:] + self.machine.journal() if not up else 200)
        self.report.check("packaged config: all else is refused", status(PACKAGED, "/anything") == 404, status(PACKAGED, "/anything"))
        self.report.check("enabled", self.machine.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled")
        token = self.machine.run("stat", "--format=%U:%G %a %s", "/etc/tollgate/admin.token").stdout.strip()
        self.report.check("admin token", token.startswith("root:tollgate 640 4"), token)
        owner = self.machine.run("stat", "--format=%U", f"/proc/{self.machine.main_pid()}").stdout.strip()
        self.report.check("runs as its own user", owner == "tollgate", owner)
        for command in ("reload", "diff", "check"):
            done = self.machine.run("tollgate", command, "-c", "/etc/tollgate/tollgate.yaml")
            self.report.check(f"packaged config: tollgate {command}", done.returncode == 0, done.stdout + done.stderr)
        for path in ("/usr/share/man/man1/tollgate.1.gz", "/usr/share/bash-completion/completions/tollgate"):
            self.report.check("man page, completions", self.machine.has(path) or path.startswith("/usr/share/man"), path)
        self.judged_by_systemd()
        self.rotated()

    def judged_by_systemd(self) -> None:
        """What systemd itself thinks of the unit."""
        done = self.machine.run("systemd-analyze", "verify", "--man=no", UNIT)
        self.report.check("systemd-analyze verify", done.returncode == 0 and not done.stderr, done.stderr)
        done = self.machine.run("systemd-analyze", "security", "--no-pager", UNIT)
        last = done.stdout.strip().splitlines()[-1:] or [""]
        exposure = next((float(word) for word in last[0].split() if word.replace(".", "").isdigit()), 99.0)
        self.report.check("systemd-analyze security", exposure <= EXPOSURE, f"{exposure}, at most {EXPOSURE}")
        lines = self.machine.journal(5).strip()
        self.report.check("messages are in the journal", "tollgate" in lines, lines.splitlines()[-1:])

    def rotated(self) -> None:
        """logrotate as the package has it."""
        size = "stat --format=%s /var/log/tollgate/access.log"
        status(PACKAGED, "/before")
        eventually(lambda: self.machine.run(*size.split()).stdout.strip() not in ("", "0"), 5, 0.1)
        done = self.machine.run("logrotate", "--force", "/etc/logrotate.d/tollgate")

        def written() -> bool:
            status(PACKAGED, "/after")
            return self.machine.run(*size.split()).stdout.strip() not in ("", "0")

        moved = self.machine.has("/var/log/tollgate/access.log.1")
        good = done.returncode == 0 and moved and eventually(written, 5, 0.1)
        self.report.check("logrotate", good, done.stderr or f"moved: {moved}")

    def upgrade(self, upgrades: Upgrades) -> None:
        """While it serves: a newer version; one whose unit changed; one that does not even start; back."""
        restarts = self.machine.show("NRestarts")
        for number in (2, 3, 4, 3):
            old = self.machine.main_pid()
            outer = self.machine.service_pids().get(old, 0)
            said = self.apt(number)
            new = self.machine.main_pid()
            if number == 4:
                self.report.check("a package that crashes is told of", "WARNING" in said, said[-300:])
                self.report.check("a package that crashes harms nobody", new == old, f"{old} -> {new}")
            else:
                smooth = "upgraded while it served" in said and new not in (0, old)
                self.report.check("a package upgrades while it serves", smooth, f"{number}.deb: {old} -> {new} {'' if smooth else said[-400:]}")
                upgrades.watch(outer)
            told = "the unit changed" in said
            self.report.check("a changed unit is told of", told == (number >= 3), f"{number}.deb: {told}")
            upgrades.steady()
        self.report.check("no restarts by systemd", self.machine.show("NRestarts") == restarts, self.machine.show("NRestarts"))

    def changed_unit(self) -> None:
        """A restart takes its settings up; then it is not told of again."""
        self.report.check("a changed unit waits for a restart", self.limit() > 9999, self.limit())
        self.machine.run("systemctl", "restart", UNIT)
        self.report.check("a restart takes a changed unit up", self.limit() == 9999, self.limit())
        self.report.check("a unit that was taken up is not told of", "the unit changed" not in self.apt(3))

    def limit(self) -> int:
        """Descriptors that the main process may have: what 3.deb changes."""
        outer = self.machine.service_pids().get(self.machine.main_pid(), 0)
        limits = Path(f"/proc/{outer}/limits").read_text(encoding="utf-8") if outer else ""
        return next((int(line.split()[3]) for line in limits.splitlines() if line.startswith("Max open files")), 0)

    def remove(self) -> None:
        """Removed: it serves no more, its config stays. Purged: nothing of it is left but the user."""
        done = self.machine.run("apt-get", "remove", "--yes", "--quiet", "tollgate")
        self.report.check("remove", done.returncode == 0, done.stderr[-300:])
        self.report.check("remove stops it", not self.machine.service_pids() and status(PACKAGED, "/health") == 0, self.machine.service_pids())
        self.report.check("remove leaves the config", self.machine.has("/etc/tollgate/tollgate.yaml"))
        self.apt(2)
        again = eventually(lambda: self.machine.show("ActiveState") == "active", 5)
        self.report.check("installed again it starts", again, self.machine.show("ActiveState"))
        self.machine.run("rm", "-r", "/etc/tollgate/tls")
        done = self.machine.run("apt-get", "purge", "--yes", "--quiet", "tollgate")
        self.report.check("purge", done.returncode == 0, done.stderr[-300:])
        self.report.check("purge leaves nothing", not self.left(), self.left())

    def archive(self) -> None:
        """The tarball, installed by its own note, command by command."""
        folder = self.machine.run("sh", "-c", "mkdir /root/archive && tar -C /root/archive --strip-components=1 -xzf $0", f"{self.debs}/archive.tar.gz")
        self.report.check("the archive unpacks", folder.returncode == 0, folder.stderr)
        note = (self.machine.tree / "root/archive/INSTALL.md").read_text(encoding="utf-8").split("```")[1]
        commands = [line for line in note.strip().splitlines() if not line.startswith("curl ")]
        done = self.machine.run("sh", "-ec", "cd /root/archive\n" + "\n".join(commands))
        self.report.check("the archive installs by its note", done.returncode == 0, done.stderr[-300:])
        up = eventually(lambda: status(PACKAGED, "/health") == 200, 10, 0.2)
        self.report.check("the archive's gateway serves", up, "" if up else self.machine.journal())
        asked = self.machine.run("tollgate", "reload", "-c", "/etc/tollgate/tollgate.yaml")
        self.report.check("the archive's gateway can be reloaded", asked.returncode == 0, asked.stderr)

    def left(self) -> list[str]:
        """Files in the tree that bear its name."""
        found = []
        for folder, folders, files in os.walk(self.machine.tree):
            inside = folder[len(str(self.machine.tree)) :] or "/"
            folders[:] = [f for f in folders if os.path.join(inside, f) not in ("/root", "/proc", "/sys", "/var/log/journal")]
            found += [os.path.join(inside, name) for name in (*folders, *files) if "tollgate" in name]
        found += [f"/run/{name}" for name in self.machine.run("ls", "/run").stdout.split() if "tollgate" in name]
        return found
