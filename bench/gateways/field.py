"""The field: which gateways there are, and the cells they run in."""

import importlib
import inspect
import itertools
import pathlib
import shutil
import tempfile

import gateway
import materials
import origin
import parity
import process

MODULES = ("tollgate", "bare", "nginx", "haproxy", "envoy", "caddy")


def gateways():
    """An object of every gateway whose module is there, in the order of the tables."""
    found = []
    for module in MODULES:
        if (gateway.HERE / f"{module}.py").exists():
            loaded = importlib.import_module(module)
            kinds = [kind for _, kind in inspect.getmembers(loaded, inspect.isclass) if kind.__module__ == module]
            kinds = [kind for kind in kinds if issubclass(kind, gateway.Gateway) and kind.name]
            found.extend(kind() for kind in sorted(kinds, key=lambda kind: kind.name))
    return found


class Field:
    """The folder of a run, what all cells share in it, and the making of cells."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gateways-"))
        self.dir.chmod(0o755)
        self.shared = self.dir / "shared"
        materials.make(self.shared)
        self.numbers = itertools.count(1)

    def cell(self, kind, workload, limit, origins=None, **more):
        """A cell with a fresh folder and free ports."""
        folder = self.dir / f"{next(self.numbers)}-{kind.name}-{workload}"
        folder.mkdir()
        ports = process.free_ports(5)
        origins = origins or dict(zip(("v1", "v2", "canary"), ports[2:], strict=True))
        return gateway.Cell(workload, folder, ports[0], ports[1], origins, limit, self.shared, **more)

    def parity(self, kind, workload):
        """Faults and excused faults of one gateway under one workload."""
        cell = self.cell(kind, workload, gateway.FEW)
        servers = origin.start(cell.origins)
        try:
            with process.Started(kind, cell) as started:
                faults, excused, asker = parity.check(cell, kind)
                if started.process.poll() is not None:
                    faults.append(f"it ended: {started.last_words()}")
            if workload == "full" and "log" not in kind.excused:
                faults.extend(parity.access_log(asker))
        except gateway.Missing as missing:
            return [str(missing)], []
        finally:
            origin.stop(servers)
        return faults, excused

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)
