"""What every gateway of the comparison has in common: the workloads, a cell of the table, the class to fill in.

A cell is one gateway under one workload. The harness makes the cell (folder, ports, keys), lets the gateway write
its configuration, starts it, checks that it does what the others do, and only then measures it.
"""

import dataclasses
import http.client
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOOLS = ROOT / "target" / "tools"
# Where what has a lock file of its own is built.
BESIDES = ROOT / "target" / "bare"

PLAIN = ("plain", "plain64k")
KEYED = ("apikey", "refused")
JWT = ("hs256", "rs256", "es256", "fresh", "full")
TLS = ("tls-new", "tls-keep", "h2")
WORKLOADS = ("plain", "plain64k", "apikey", "hs256", "rs256", "es256", "fresh", "full", "refused", *TLS)

# The algorithm of a workload's tokens, and the key id they bear.
ALGORITHMS = {"hs256": "HS256", "rs256": "RS256", "es256": "ES256", "fresh": "RS256", "full": "RS256"}
KIDS = {"HS256": "hs", "RS256": "rs", "ES256": "es"}

ISSUER = "https://bench.example.com/"
AUDIENCE = "bench"
UNLIMITED = 1_000_000_000
FEW = 5


class Missing(Exception):
    """The gateway cannot be had on this machine; its text says why."""


@dataclasses.dataclass
class Cell:
    """One gateway under one workload: where it lives, what it listens on, what it is given."""

    workload: str
    dir: pathlib.Path  # the gateway's own: its configuration, its logs
    port: int  # it listens on 127.0.0.1:port, with TLS in the workloads of TLS
    admin: int  # a spare port
    origins: dict  # {"v1": port, "v2": port, "canary": port}
    limit: int  # requests a minute of a client (apikey, refused) or of a `sub` (full)
    shared: pathlib.Path  # what all cells are given: keys, certificate; the paths below lie in it
    workers: int = 1
    extra: dict = dataclasses.field(default_factory=dict)  # for a gateway's own further tests

    issuer = ISSUER
    audience = AUDIENCE

    @property
    def keys(self):
        """10,000 API keys, a line each: `key client-id`."""
        return self.shared / "keys.txt"

    @property
    def hs256_secret(self):
        """The secret of HS256: printable text, the bytes as they are, without an end of line."""
        return self.shared / "hs256.secret"

    @property
    def rs256_public(self):
        return self.shared / "rs256.pub.pem"

    @property
    def es256_public(self):
        return self.shared / "es256.pub.pem"

    @property
    def jwks(self):
        """A key set of all three, with the key ids hs, rs, es."""
        return self.shared / "jwks.json"

    @property
    def cert(self):
        """A certificate of P-256 for bench.test and localhost, PEM."""
        return self.shared / "cert.pem"

    @property
    def key(self):
        return self.shared / "key.pem"

    @property
    def access_log(self):
        return self.dir / "access.log"

    @property
    def algorithm(self):
        """The one algorithm this workload's tokens may have; None where there are no tokens."""
        return ALGORITHMS.get(self.workload)

    @property
    def kid(self):
        """The key id in this workload's tokens."""
        return KIDS.get(self.algorithm)

    @property
    def tls(self):
        return self.workload in TLS


class Gateway:
    """A gateway in the comparison. A module beside this one has a class for each."""

    name = ""
    workloads = frozenset()
    # Checks of parity it cannot pass by its nature, each with the reason: they are not counted against it, but told.
    excused = {}
    # Where it does less or other than the contract; printed in the report.
    departures = []
    # Ends it in good order (KILL follows after 3 s).
    stop_signal = signal.SIGTERM
    # Whether callgrind can run it.
    countable = False

    def install(self):
        """Installs what is missing and returns the version; raises Missing where it cannot be had."""
        raise Missing("not written")

    def configure(self, cell):
        """Writes its configuration below `cell.dir`."""
        raise NotImplementedError

    def command(self, cell):
        """Its argv, in the foreground; started in `cell.dir`."""
        raise NotImplementedError

    def env(self, cell):
        """Further variables of its environment."""
        return {}

    def ready(self, cell):
        """Whether it answers, whatever it answers."""
        try:
            connect(cell, timeout=1).getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def pids(self, root_pid):
        """All processes of it."""
        return descendants(root_pid)


def connect(cell, timeout=5):
    """A connection to the gateway on which GET /ready-probe-any was sent; over TLS if the cell has it."""
    if cell.tls:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", cell.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", cell.port, timeout=timeout)
    connection.request("GET", "/ready-probe-any", headers={"Host": "bench.test"})
    return connection


def descendants(root):
    """A process and all that come from it."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, new = [], [root]
    while new:
        pid = new.pop()
        found.append(pid)
        new.extend(children.get(pid, []))
    return found


def run(*argv, **more):
    """Runs a command and returns what it prints; raises Missing if it fails."""
    try:
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, **more)
    except OSError as error:
        raise Missing(str(error)) from error
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Missing(f"{pathlib.Path(str(argv[0])).name} failed: {' '.join(tail)}")
    return done.stdout or done.stderr


def apt(*packages):
    """Installs Debian packages; raises Missing where that fails."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    try:
        run(*install, env=env)
    except Missing:
        run("apt-get", "update", "-q")
        run(*install, env=env)


def apt_if_missing(**packages):
    """Installs the packages of commands that are not there: `h2load="nghttp2-client"`."""
    wanted = [package for command, package in packages.items() if not shutil.which(command)]
    if wanted:
        apt(*wanted)


def pip(requirement):
    """The folder of a virtual environment below target/tools that has this PyPI package (`name==version`)."""
    venv = TOOLS / requirement.replace("==", "-")
    done = venv / "installed"
    if not done.exists():
        run("python3", "-m", "venv", venv)
        run(venv / "bin" / "pip", "install", "--quiet", requirement)
        done.write_text(requirement + "\n")
    return venv


def wait_until(true, seconds, step=0.02):
    """Whether it became true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True
