"""The bars Tollgate was given before anything was measured, each met or missed."""

PEERS = ("nginx", "nginx-cache", "haproxy", "envoy", "envoy-cache", "caddy")


class Bar:
    """Something that must not be more than something else."""

    def __init__(self, what, value, most, form="{:.3f}"):
        self.what, self.value, self.most, self.form = what, value, most, form

    @property
    def verdict(self):
        if self.value is None or self.most is None:
            return "not measured"
        return "met" if self.value <= self.most else "**missed**"

    def told(self):
        shown = [self.form.format(one) if one is not None else "–" for one in (self.value, self.most)]
        return [self.what, *shown, self.verdict]


def all_bars(figures):
    """Every bar, in the order of the plan."""
    return [*cpu(figures), *work(figures), *memory(figures), *latency(figures), *scaling(figures)]


def cpu(figures):
    wanted = [("full", "envoy-cache", 0.65), ("full", "haproxy", 0.60), ("full", "nginx", 0.60)]
    wanted += [(workload, peer, 1.0) for workload in ("rs256", "es256") for peer in ("haproxy", "nginx")]
    wanted += [("plain", "envoy", 0.75), ("apikey", "envoy", 0.70), ("refused", "nginx", 1.0)]
    wanted += [(w, "envoy", 1.0) for w in figures.workloads if w not in ("plain", "apikey")]
    for workload, peer, most in wanted:
        yield Bar(f"CPU, `{workload}`: Tollgate / {peer}", figures.ratio(workload, peer), most)


def work(figures):
    count = figures.instructions
    bare, plain = count("plain", "bare"), count("plain", "tollgate")
    whole = "{:,.0f}"
    yield Bar("instructions of a refusal", count("refused", "tollgate"), 12_000, whole)
    yield Bar("instructions, `plain`, over 1.08 times bare Pingora's", plain, bare and 1.08 * bare, whole)
    yield Bar("instructions, `full`, over those of `plain` and 9,000", count("full", "tollgate"), plain and plain + 9_000, whole)
    for workload in ("plain", "full"):
        yield Bar(f"instructions, `{workload}`: two workers / one", figures.growth("workers", workload), 1.03)


def memory(figures):
    one = "{:.1f}"
    yield Bar("MiB resident under 64 connections", figures.resident("tollgate", "rss"), 40, one)
    yield Bar("KiB of an idle connection", figures.memory("idle", "tollgate"), 4, one)
    yield Bar("KiB of a request in flight", figures.memory("in_flight", "tollgate"), 32, one)


def latency(figures):
    for workload in ("plain", "full"):
        for percentile in ("p50", "p90"):
            ours, theirs = (figures.latency(workload, "half", name, percentile) for name in ("tollgate", "envoy"))
            yield Bar(f"open loop, `{workload}`, {percentile} in µs: not above Envoy's", ours, theirs, "{:.0f}")
    for percentile, most in (("p50", 150), ("p99", 500)):
        added = figures.added("plain", "1000", "tollgate", percentile)
        yield Bar(f"1,000 a second, `plain`: µs added to {percentile}", added, most, "{:.0f}")


def scaling(figures):
    yield Bar("instructions: 10,000 routes / 10", figures.growth("routes"), 1.1)
    yield Bar("instructions: 1,000,000 clients counted / 10", figures.growth("clients"), 1.1)


def losses(figures):
    """Where a peer does better than Tollgate, each as a line."""
    peers = [name for name in figures.gateways if name in PEERS]
    for workload in figures.workloads:
        for peer in peers:
            ratio = figures.ratio(workload, peer)
            if ratio is not None and ratio > 1:
                yield f"CPU, `{workload}`: {ratio:.2f} times {peer}'s"
    for workload in figures.raw.get("instructions", {}):
        yield from worse(f"instructions, `{workload}`", lambda n, w=workload: figures.instructions(w, n), peers)
    for which, what in (("idle", "memory of an idle connection"), ("in_flight", "memory of a request in flight")):
        yield from worse(what, lambda n, w=which: figures.memory(w, n), peers)
    yield from worse("memory under 64 connections", figures.resident, peers)
    for workload, table in figures.raw.get("latency", {}).items():
        for which in table:
            for percentile in ("p50", "p90", "p99"):
                def one(name, at=(workload, which), percentile=percentile):
                    return figures.latency(*at, name, percentile)

                at = "1,000 a second" if which == "1000" else "half of Envoy's rate"
                yield from worse(f"latency at {at}, `{workload}`, {percentile}", one, peers)


def worse(what, figure, peers):
    """Peers whose figure is below Tollgate's."""
    ours = figure("tollgate")
    for peer in peers:
        theirs = figure(peer)
        if ours and theirs and ours > theirs:
            yield f"{what}: {ours:,.1f} against {theirs:,.1f} of {peer} ({ours / theirs:.2f} times)"
