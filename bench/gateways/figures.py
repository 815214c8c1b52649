"""Reading raw results: medians over rounds, ratios within a round and then their median. None where there is nothing."""

import statistics


def median(values):
    """The median of what is there."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


class Figures:
    """The figures of a run."""

    def __init__(self, raw):
        self.raw = raw
        self.rounds = raw.get("rounds", [])
        self.gateways = list(raw["versions"])
        self.workloads = raw["settings"]["workloads"]

    def each(self, workload, name, figure):
        """The values of a figure, a round each; None for a round that does not count."""
        found = []
        for row in self.rounds:
            cell = row.get(workload, {}).get(name)
            good = cell and not cell["void"]
            found.append(figure(cell) if callable(figure) and good else cell[figure] if good else None)
        return found

    def median(self, workload, name, figure="cpu_us"):
        return median(self.each(workload, name, figure))

    def spread(self, workload, name, figure="cpu_us"):
        there = [value for value in self.each(workload, name, figure) if value is not None]
        return (min(there), max(there)) if there else None

    def ratio(self, workload, other, figure="cpu_us"):
        """Tollgate's over another's: of each round, then their median."""
        pairs = zip(self.each(workload, "tollgate", figure), self.each(workload, other, figure), strict=True)
        return median([ours / theirs for ours, theirs in pairs if ours is not None and theirs])

    def instructions(self, workload, name):
        return good(self.raw.get("instructions", {}).get(workload, {}).get(name), "each")

    def latency(self, workload, which, name, percentile):
        return good(self.raw.get("latency", {}).get(workload, {}).get(which, {}).get(name), percentile)

    def added(self, workload, which, name, percentile):
        """What a gateway adds to what the origin takes by itself, in microseconds."""
        whole, direct = (self.latency(*at, percentile) for at in [(workload, which, name), ("plain", which, "direct")])
        return None if whole is None or direct is None else whole - direct

    def memory(self, which, name):
        """KiB each, by what is resident."""
        return good(self.raw.get("memory", {}).get(which, {}).get(name), "rss_kib")

    def resident(self, name, which="pss", workloads=("plain", "full")):
        """MiB at the end of a load of 64 connections, the larger of the two; `pss` counts once what processes share."""
        found = [self.median(w, name, lambda cell: cell["memory_kib"].get(which)) for w in workloads]
        there = [one for one in found if one]
        return max(there) / 1024 if there else None

    def growth(self, step, workload=None):
        """What Tollgate does a request with much of something, over what it does with little."""
        table = self.raw.get("scaling", {}).get(step, {})
        table = table.get(workload, {}) if workload else table
        counts = sorted(table, key=int)
        values = [good(table[count], "each") for count in counts]
        return values[-1] / values[0] if len(values) == 2 and all(values) else None


def good(cell, name):
    """A value of a cell that counts."""
    return cell.get(name) if cell and not cell.get("void") else None
