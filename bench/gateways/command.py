"""The command line of the harness."""

import argparse
import os
import pathlib
import resource
import signal
import sys

import comparison
import field
import gateway
import latency
import origin
import parity as parity_of
import report


def main(argv):
    # 10,000 connections, for the gateways as for the load.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Whoever ends us ends what we started too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    if argv[:1] == ["parity"]:
        return parity(argv[1:])
    if argv[:1] == ["tried"]:
        return tried()
    if argv[:1] == ["report"]:
        return report.write(pathlib.Path(argv[1]))
    return compare(argv)


def compare(argv):
    """Measures, writes the results and their report."""
    words = argparse.ArgumentParser(prog="bench/gateways/run")
    words.add_argument("--rounds", type=int)
    words.add_argument("--seconds", type=float)
    words.add_argument("--minutes", type=float, help="no further step is begun that would not end within these")
    words.add_argument("--busy", type=float, help="the share of its core the load must have had, default 0.99")
    words.add_argument("--gateways", default="", help="names, with commas between them")
    words.add_argument("--workloads", default="")
    words.add_argument("--out", help="a folder; default: bench/results/<date-cpu-cores>")
    given = words.parse_args(argv)
    names = [name for name in f"{given.gateways},{given.workloads}".split(",") if name]
    kinds, workloads = chosen(field.gateways(), gateway.WORKLOADS, names)
    kinds, versions, missing = installed(kinds)
    gateway.apt_if_missing(h2load="nghttp2-client", valgrind="valgrind", openssl="openssl", curl="curl")
    quick = os.environ.get("BENCH") == "quick"
    settings = comparison.settings(quick, rounds=given.rounds, seconds=given.seconds, minutes=given.minutes, busy=given.busy)
    out = pathlib.Path(given.out) if given.out else comparison.place()
    comparison.Comparison(kinds, versions, missing, workloads, settings, out).run()
    return report.write(out)


def chosen(kinds, workloads, names):
    """Gateways and workloads, told apart by their names; none of either means all."""
    known = {kind.name: kind for kind in kinds}
    strange = [name for name in names if name not in known and name not in workloads]
    if strange:
        raise SystemExit(f"neither a gateway nor a workload: {', '.join(strange)}")
    return [known[n] for n in known if n in names] or kinds, [w for w in workloads if w in names] or list(workloads)


def installed(kinds):
    """Those that could be installed, with their versions; a line for each that could not, and why."""
    versions, missing = {}, {}
    for kind in kinds:
        try:
            versions[kind.name] = kind.install()
        except gateway.Missing as why:
            missing[kind.name] = str(why)
            print(f"{kind.name}: MISSING, the others go on without it: {why}", flush=True)
    return [kind for kind in kinds if kind.name in versions], versions, missing


def parity(names):
    kinds, workloads = chosen(field.gateways(), gateway.WORKLOADS, names)
    kinds, versions, _ = installed(kinds)
    ground = field.Field()
    bad = 0
    try:
        for kind in kinds:
            print(f"{kind.name} {versions[kind.name]}")
            for workload in workloads:
                if workload not in kind.workloads:
                    continue
                faults, excused = ground.parity(kind, workload)
                bad += bool(faults)
                print(f"  {workload:9} {'FAULTS' if faults else 'parity'}", flush=True)
                for fault in faults:
                    print(f"            {fault}")
                for fault in excused:
                    print(f"            excused: {fault} ({kind.excused[fault.split(':')[0]]})")
    finally:
        ground.close()
    return 1 if bad else 0


# What the origin itself does as the contract wants it.
DONE_BY_ITSELF = {"passes", "keeps"}


def tried():
    """Tries the checks themselves: of an origin with no gateway before it, each must say what is missing."""
    ground, blind = field.Field(), []
    try:
        for workload in (*gateway.KEYED, *gateway.JWT):
            cell = ground.cell(latency.Direct(), workload, gateway.FEW)
            servers = origin.start(cell.origins)
            cell.port = cell.origins["v1"]
            faults, _, asker = parity_of.check(cell, latency.Direct())
            origin.stop(servers)
            faults += parity_of.access_log(asker) if workload == "full" else []
            told = {fault.partition(":")[0] for fault in faults}
            wanted = {name for name, (_, workloads) in parity_of.CHECKS.items() if workload in workloads}
            blind += [f"{workload}: {name} finds nothing" for name in sorted(wanted - DONE_BY_ITSELF - told)]
            print(f"{workload}: {len(faults)} faults of no gateway at all", flush=True)
    finally:
        ground.close()
    print("\n".join(blind) or "every check sees what is missing")
    return 1 if blind else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
