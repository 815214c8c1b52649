"""The report, from the raw results alone: what Tollgate loses first, then bars, tables and a plot."""

import json

import bars
import plot
from figures import Figures


def write(folder):
    """Writes gateways.md and gateways.svg beside gateways.json, and prints what matters most."""
    figures = Figures(json.loads((folder / "gateways.json").read_text()))
    lost = list(bars.losses(figures))
    judged = bars.all_bars(figures)
    parts = [head(figures), losing(lost), judgement(judged), cpu(figures), ratios(figures), spread(figures), instructions(figures),
             latency(figures), memory(figures), scaling(figures), parity(figures), told(figures)]
    (folder / "gateways.md").write_text("\n\n".join(part for part in parts if part) + "\n")
    (folder / "gateways.svg").write_text(plot.svg(figures))
    print(losing(lost))
    print()
    print(judgement(judged))
    print()
    print(cpu(figures))
    return 1 if any(bar.verdict == "**missed**" for bar in judged) else 0


def table(heads, rows):
    """A table of markdown; nothing but a dash where there is no value."""
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value, form="{:.2f}"):
    return "–" if value is None else form.format(value)


def head(figures):
    raw, machine, chosen = figures.raw, figures.raw["machine"], figures.raw["settings"]
    kind = "A quick look, not a measurement. " if chosen["quick"] else ""
    if chosen["busy"] < 0.99:
        kind += f"**The machine was shared: rounds count from {chosen['busy']:.0%} of a core for the load.** "
    commit = f", commit {raw['commit']}" if raw.get("commit") else ""
    return (f"# Gateways compared\n\n{kind}{raw['begun']}, {machine['cpu']}, {machine['cores']} cores, "
            f"{machine['memory_mib']} MiB, Linux {machine['kernel']}{commit}. {len(figures.rounds)} round{'s' * bool(figures.rounds[1:])} of "
            f"{chosen['seconds']:g} s a cell, {chosen['connections']} connections, {raw.get('minutes', '?')} minutes in all. "
            "The gateway has one worker and one core, the load and the origin the other one. What is compared, and what "
            "is not, stands in `bench/gateways/README.md`; everything here is made from `gateways.json`.")


def losing(lost):
    lines = [f"- {line}" for line in lost] or ["- nowhere, in what was measured"]
    return "\n".join(["## Where Tollgate loses", "", *lines])


def judgement(judged):
    rows = [bar.told() for bar in judged]
    met = sum(bar.verdict == "met" for bar in judged)
    missed = sum("missed" in bar.verdict for bar in judged)
    return (f"## Bars: {met} met, {missed} missed, {len(judged) - met - missed} not measured\n\n"
            + table(["what", "value", "at most", ""], rows))


def cpu(figures):
    """CPU and, below it, how many requests a second that came to."""
    rows, rates = [], []
    for workload in figures.workloads:
        rows.append([f"`{workload}`", *(cell(figures, workload, name) for name in figures.gateways)])
        found = [figures.median(workload, name, "rate") for name in figures.gateways]
        rates.append([f"`{workload}`", *(number(rate, "{:,.0f}") for rate in found)])
    heads = ["", *figures.gateways]
    return ("## CPU a request\n\nMicroseconds, median of the rounds; in brackets user mode and kernel.\n\n"
            f"{table(heads, rows)}\n\n![](gateways.svg)\n\n## Requests a second\n\nOf a closed loop on one core of load; "
            f"where the gateway had time left, the load was the bound.\n\n{table(heads, rates)}")


def spread(figures):
    """How far the rounds lie apart."""
    rows = []
    for workload in figures.workloads:
        row = [f"`{workload}`"]
        for name in figures.gateways:
            ends, middle = figures.spread(workload, name), figures.median(workload, name)
            row.append(f"{(ends[1] - ends[0]) / middle:.0%}" if ends else "–")
        rows.append(row)
    note = "CPU a request, the most less the least of the rounds, in parts of the median."
    return f"## How far the rounds lie apart\n\n{note}\n\n{table(['', *figures.gateways], rows)}" if figures.rounds[1:] else ""


def cell(figures, workload, name):
    total, user, kernel = (figures.median(workload, name, part) for part in ("cpu_us", "user_us", "kernel_us"))
    return "–" if total is None else f"{total:.1f} ({user:.1f} + {kernel:.1f})"


def ratios(figures):
    peers = [name for name in figures.gateways if name != "tollgate"]
    rows = [[f"`{w}`", *(number(figures.ratio(w, peer)) for peer in peers)] for w in figures.workloads]
    return ("## CPU of Tollgate over that of another\n\nOf each round, then the median; below 1 Tollgate needs less.\n\n"
            + table(["", *peers], rows))


def instructions(figures):
    measured = figures.raw.get("instructions", {})
    rows = [[f"`{w}`", *(number(figures.instructions(w, n), "{:,.0f}") for n in figures.gateways)] for w in measured]
    note = "In user mode, counted by callgrind as the difference of two runs; a dash where it could not run the gateway."
    return f"## Instructions a request\n\n{note}\n\n{table(['', *figures.gateways], rows)}" if rows else ""


def latency(figures):
    rows = []
    for workload, rates in figures.raw.get("latency", {}).items():
        for which, found in rates.items():
            for name, one in found.items():
                if one.get("void"):
                    rows.append([f"`{workload}`", which, name, one["void"], "", ""])
                    continue
                spread = [f"{one[p]:.0f} ({one['spread'][p][0]:.0f}–{one['spread'][p][1]:.0f})" for p in ("p50", "p90", "p99")]
                rows.append([f"`{workload}`", f"{one['rate']:,.0f}/s", name, *spread])
    note = "Microseconds since a request was due, in an open loop; in brackets the least and the most of its seconds."
    return f"## Latency\n\n{note}\n\n{table(['', 'rate', '', 'p50', 'p90', 'p99'], rows)}" if rows else ""


def memory(figures):
    rows = []
    for name in figures.gateways:
        each = [number(figures.memory(which, name)) for which in ("idle", "in_flight")]
        rows.append([name, number(figures.resident(name), "{:.1f}"), *each])
    heads = ["", "MiB under 64 connections", "KiB an idle connection", "KiB a request in flight"]
    return f"## Memory\n\nAll processes of a gateway together; what they share is counted once.\n\n{table(heads, rows)}"


def scaling(figures):
    rows = [[what, number(figures.growth(*step), "{:.3f}")] for what, *step in [
        ("`plain`, two workers over one", "workers", "plain"),
        ("`full`, two workers over one", "workers", "full"),
        ("10,000 routes over 10", "routes"),
        ("1,000,000 clients counted over 10", "clients"),
    ]]
    return f"## How Tollgate's instructions grow\n\n{table(['', 'ratio'], rows)}"


def parity(figures):
    """What did not pass, and which rounds did not count."""
    lines = [f"- {name} is missing: {why}" for name, why in figures.raw["missing"].items()]
    for workload, row in figures.raw.get("parity", {}).items():
        for name, found in row.items():
            lines += [f"- `{workload}`, {name}, not measured: {fault}" for fault in found["faults"]]
    for n, row in enumerate(figures.rounds, 1):
        for workload, cells in row.items():
            lines += [f"- `{workload}`, {name}, round {n}: {c['void']}" for name, c in cells.items() if c["void"]]
    for what in ("instructions", "scaling"):
        lines += [f"- {what}, {where}: {why}" for where, why in voids(figures.raw.get(what, {}))]
    for which, row in figures.raw.get("memory", {}).items():
        lines += [f"- memory {which}, {name}: {c['void']}" for name, c in row.items() if c["void"]]
    lines += [f"- no time was left for: {what}" for what in figures.raw.get("skipped", [])]
    return "## What does not count, and why\n\n" + ("\n".join(lines) or "Everything counts.")


def voids(table, path=()):
    """The reasons anywhere in a nested table, and where they are."""
    if table.get("void"):
        yield ", ".join(path), table["void"]
    for name, inner in table.items():
        if isinstance(inner, dict):
            yield from voids(inner, (*path, name))


def told(figures):
    lines = [f"- {name} {version}" for name, version in figures.raw["versions"].items()]
    lines += ["", "## Departures from the contract", ""]
    for name in figures.gateways:
        lines += [f"- {name}: {departure}" for departure in figures.raw["departures"].get(name, [])]
        lines += [f"- {name} is excused from `{check}`: {why}" for check, why in figures.raw["excused"].get(name, {}).items()]
    return "\n".join(["## Versions", "", *lines])
