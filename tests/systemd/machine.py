"""The machine under test: a booted Debian tree, entered from outside. Its network is ours."""

import os
import re
import subprocess
from pathlib import Path

CONFIG = "/etc/tollgate/tollgate.yaml"
UNIT = "tollgate.service"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


class Machine:
    """`leader` is the process number of its init, `tree` its files, `cgroup` where its processes are."""

    def __init__(self, leader: int, tree: Path, cgroup: Path) -> None:
        self.leader = leader
        self.tree = tree
        self.cgroup = cgroup

    def start(self, *command: str) -> subprocess.Popen:
        """A command of root's in it."""
        inside = ["nsenter", "--target", str(self.leader), "--all", "--", *command]
        return subprocess.Popen(inside, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *command: str, timeout: float = 180.0) -> subprocess.CompletedProcess:
        """The same, with its end. One that does not end in time has code 124, as `timeout` has it."""
        process = self.start(*command)
        try:
            out, err = process.communicate(timeout=timeout)
            return subprocess.CompletedProcess(command, process.returncode, out, err)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return subprocess.CompletedProcess(command, 124, out, err + f"no end after {timeout:.0f} s")

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """A file, in one step: whoever runs the old one keeps it."""
        target = self.tree / path.lstrip("/")
        draft = target.with_name(target.name + ".draft")
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        draft.chmod(mode)
        draft.rename(target)

    def has(self, path: str) -> bool:
        """Whether there is a file or folder."""
        if path.startswith("/run/"):  # not part of the tree
            return self.run("test", "-e", path).returncode == 0
        return os.path.lexists(self.tree / path.lstrip("/"))

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.run("systemctl", "show", "--property", name, "--value", UNIT).stdout.strip()

    def main_pid(self) -> int:
        """In its own numbers; 0 for none."""
        return int(self.show("MainPID") or 0)

    def service_pids(self) -> dict[int, int]:
        """All processes of the service: its numbers and ours."""
        try:
            listed = (self.cgroup / "system.slice" / UNIT / "cgroup.procs").read_text().split()
        except OSError:
            return {}
        pairs = ((inner_pid(int(pid)), int(pid)) for pid in listed)
        return {inner: outer for inner, outer in pairs if inner}

    def journal(self, lines: int = 40) -> str:
        """The last it said."""
        return self.run("journalctl", "--unit", UNIT, "--no-pager", "--lines", str(lines), "--output", "short-precise").stdout


def inner_pid(outer: int) -> int:
    """The number that a process has in the innermost namespace; 0 if it is gone."""
    try:
        status = Path(f"/proc/{outer}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r"^NSpid:.*\t(\d+)$", status, re.MULTILINE)
    return int(found.group(1)) if found else 0


def alive(outer: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{outer}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def listening(ports: set[int]) -> dict[int, int]:
    """How many sockets listen on each port."""
    count = dict.fromkeys(ports, 0)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == "0A" and port in count:
                count[port] += 1
    return count
