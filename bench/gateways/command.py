"""The command line of the harness."""

import sys

import field
import gateway


def main(argv):
    if argv[:1] == ["parity"]:
        return parity(argv[1:])
    raise SystemExit("not yet")


def chosen(kinds, workloads, names):
    """Gateways and workloads, told apart by their names; none of either means all."""
    known = {kind.name: kind for kind in kinds}
    strange = [name for name in names if name not in known and name not in workloads]
    if strange:
        raise SystemExit(f"neither a gateway nor a workload: {', '.join(strange)}")
    return [known[n] for n in known if n in names] or kinds, [w for w in workloads if w in names] or list(workloads)


def installed(kinds):
    """Those that could be installed, with their versions; a line for each that could not."""
    versions = {}
    for kind in kinds:
        try:
            versions[kind.name] = kind.install()
        except gateway.Missing as missing:
            print(f"{kind.name}: MISSING, the others go on without it: {missing}", flush=True)
    return [kind for kind in kinds if kind.name in versions], versions


def parity(names):
    kinds, workloads = chosen(field.gateways(), gateway.WORKLOADS, names)
    kinds, versions = installed(kinds)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
