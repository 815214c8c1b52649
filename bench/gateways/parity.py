"""The parity check: does a gateway pass, refuse, set, split and limit what the contract says? Before that, nothing is measured.

Every check is a function of an `Asker` that yields its faults as texts. A fault voids the cell, unless the
gateway's class excuses the check by name with a reason, which the report prints.
"""

import collections
import http.client
import json
import re
import ssl
import subprocess
import uuid

import gateway
import materials

Answer = collections.namedtuple("Answer", "status headers body")
PATH = "/api/items"
ECHO = "/api/echo"


class Asker:
    """Asks a running gateway."""

    def __init__(self, cell):
        self.cell = cell
        self.clients = iter([line.split() for line in cell.keys.read_text().splitlines()])
        self.numbers = iter(range(10**9))
        self.kept = None

    def ask(self, path=PATH, headers=(), keep=False):
        """One GET; over the kept connection if `keep`."""
        if self.cell.workload == "h2":
            return curl(self.cell, path, headers)
        connection = (self.kept if keep else None) or self.dial()
        connection.putrequest("GET", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        if keep:
            self.kept = connection
        else:
            connection.close()
        return answer

    def dial(self):
        if not self.cell.tls:
            return http.client.HTTPConnection("127.0.0.1", self.cell.port, timeout=5)
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection("127.0.0.1", self.cell.port, timeout=5, context=context)

    def pass_(self):
        """Headers that let a request in, of a caller who was not here before, and who that is."""
        if self.cell.workload in gateway.KEYED:
            key, client = next(self.clients)
            return [("X-API-Key", key)], client
        if self.cell.algorithm:
            sub = self.sub()
            return [("Authorization", f"Bearer {self.token(sub)}")], sub
        return [], None

    def sub(self):
        return f"user-{next(self.numbers)}"

    def token(self, sub, **changed):
        return materials.token(self.cell.shared, self.cell.algorithm, materials.claims(sub, **changed))

    def told(self, headers=(), keep=False):
        """What the origin saw of a request that must pass."""
        good, who = self.pass_()
        answer = self.ask(ECHO, [*good, *headers], keep)
        if answer.status != 200:
            raise Fault(f"a good request is answered {answer.status}")
        seen = json.loads(answer.body)
        seen["all"] = collections.defaultdict(list)
        for name, value in seen["headers"]:
            seen["all"][name.lower()].append(value)
        return seen, who


class Fault(Exception):
    """What does not hold, where nothing further can be asked."""


def curl(cell, path, headers):
    """One GET over HTTP/2."""
    argv = ["curl", "-sk", "--http2", "-i", "-m", "5", "-w", "\n%{http_version}", f"https://127.0.0.1:{cell.port}{path}"]
    for name, value in headers:
        argv += ["-H", f"{name}: {value}"]
    done = subprocess.run(argv, capture_output=True, check=False)
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    body, _, version = rest.rpartition(b"\n")
    lines = head.decode("latin-1").split("\r\n")
    if version != b"2" or not lines[0].startswith("HTTP/2 "):
        raise Fault(f"no HTTP/2: curl ends with {done.returncode}, version {version.decode()!r}")
    pairs = [line.split(": ", 1) for line in lines[1:] if ": " in line]
    return Answer(int(lines[0].split()[1]), {name.lower(): value for name, value in pairs}, body)


def passes(asker):
    headers, _ = asker.pass_()
    answer = asker.ask(headers=headers)
    if (answer.status, len(answer.body)) != (200, 100):
        yield f"a good request: {answer.status} with {len(answer.body)} bytes instead of 200 with 100"
    if answer.headers.get("x-origin") != "v1":
        yield f"a good request went to {answer.headers.get('x-origin')}, not to v1"


def large(asker):
    answer = asker.ask("/large")
    if (answer.status, len(answer.body)) != (200, 65_536):
        yield f"/large: {answer.status} with {len(answer.body)} bytes"


def request_id(asker):
    given = str(uuid.uuid4())
    seen, _ = asker.told([("X-Request-ID", given)])
    if seen["all"]["x-request-id"] != [given]:
        yield f"the client's X-Request-ID is not taken over: {seen['all']['x-request-id']}"
    ids = [asker.told()[0]["all"]["x-request-id"] for _ in range(2)]
    if any(len(one) != 1 or len(one[0]) < 16 for one in ids) or ids[0] == ids[1]:
        yield f"no X-Request-ID is made: {ids}"


def forwarded_for(asker):
    seen, _ = asker.told()
    if "127.0.0.1" not in ",".join(seen["all"]["x-forwarded-for"]):
        yield "no X-Forwarded-For"


def hop_by_hop(asker):
    sent = [("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive")]
    seen, _ = asker.told([] if asker.cell.workload == "h2" else sent)
    passed = [name for name in ("keep-alive", "proxy-connection", "te", "upgrade") if seen["all"][name]]
    if passed:
        yield f"passed on: {', '.join(passed)}"


def keeps(asker):
    """Over one connection of the client; the last but one may still have been another of the pool."""
    seen = [asker.told(keep=True)[0]["connection"] for _ in range(6)]
    if len(set(seen[2:])) > 1:
        yield f"connections to the origin are not kept: {len(set(seen))} for 6 requests"


def keys(asker):
    for name, headers in [("no key", []), ("an unknown key", [("X-API-Key", "0" * 40)]), ("an empty key", [("X-API-Key", "")])]:
        yield from refused(asker, name, headers, 401)
    yield from identity(asker, "X-Client-ID")


def identity(asker, header):
    """The caller's name reaches the origin, once, whatever the client claims to be."""
    seen, who = asker.told()
    if seen["all"][header.lower()] != [who]:
        yield f"{header} is {seen['all'][header.lower()]} and not {who}"
    seen, who = asker.told([(header, "root"), (header.lower(), "admin")])
    if seen["all"][header.lower()] != [who]:
        yield f"{header} of the client passes: {seen['all'][header.lower()]}"


def refused(asker, name, headers, want, path=PATH):
    got = asker.ask(path, headers).status
    if got != want:
        yield f"{name}: {got} instead of {want}"


def tokens(asker):
    yield from identity(asker, "X-User-ID")
    several, who = asker.token("several", aud=["other", gateway.AUDIENCE]), "several"
    answer = asker.ask(headers=[("Authorization", f"Bearer {several}")])
    if answer.status != 200:
        yield f"a token for several audiences, {who}: {answer.status}"
    for name, bad in bad_tokens(asker):
        yield from refused(asker, name, [("Authorization", f"Bearer {bad}")], 401)
    yield from refused(asker, "no token", [], 401)
    yield from refused(asker, "another scheme", [("Authorization", f"Basic {asker.token('basic')}")], 401)


def bad_tokens(asker):
    cell, right = asker.cell, asker.cell.algorithm
    good = asker.token("good")
    head, body, signature = good.split(".")
    other = materials.url64(json.dumps(materials.claims("root")).encode())
    last = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
    past = materials.claims("late", iat=1_000_000_000)["iat"]
    yield "an expired token", asker.token("late", iat=past, exp=past + 3600)
    yield "a token that does not expire", asker.token("eternal", exp=None)
    yield "another issuer", asker.token("foreign", iss="https://evil.example.com/")
    yield "no issuer", asker.token("nobody", iss=None)
    yield "another audience", asker.token("astray", aud="other")
    yield "no audience", asker.token("nowhere", aud=None)
    yield "a changed signature", f"{head}.{body}.{last}"
    yield "no signature", f"{head}.{body}."
    yield "changed claims", f"{head}.{other}.{signature}"
    yield "no token at all", "garbage"
    claims = materials.claims("root")
    yield "algorithm none", materials.token(cell.shared, "none", claims, kid=cell.kid)
    public = cell.rs256_public.read_bytes()
    for kid in {cell.kid, "hs"}:
        confused = materials.token(cell.shared, "HS256", claims, public, kid)
        yield f"HS256 with the public key of RSA as its secret, kid {kid}", confused
    for algorithm in {"HS256", "RS256", "ES256"} - {right}:
        yield f"{algorithm}, which the route does not take", materials.token(cell.shared, algorithm, claims)


def limit(asker):
    """So many pass, the next is refused, another caller is not; what was refused for its token counts against nobody."""
    few, (headers, _) = asker.cell.limit, asker.pass_()
    got = [asker.ask(headers=headers).status for _ in range(few + 2)]
    if got != [200] * few + [429] * 2:
        yield f"limit {few}: answers {got}"
    if asker.ask(headers=asker.pass_()[0]).status != 200:
        yield "the limit of one caller holds for another"
    if asker.cell.workload == "full":
        victim = asker.sub()
        good = asker.token(victim)
        for _ in range(few + 1):
            asker.ask(headers=[("Authorization", f"Bearer {good[:-8]}AAAAAAAA")])
        if asker.ask(headers=[("Authorization", f"Bearer {good}")]).status != 200:
            yield "forged tokens count against the one they name"


def routing(asker):
    for value, want in [("v1", {"v1"}), ("v3", {"v1"}), ("", {"v1"}), (None, {"v1"})]:
        headers = asker.pass_()[0] + ([("X-API-Version", value)] if value is not None else [])
        answer = asker.ask(headers=headers)
        if answer.headers.get("x-origin") not in want:
            yield f"X-API-Version {value!r} goes to {answer.headers.get('x-origin')} ({answer.status})"
    went = collections.Counter()
    for _ in range(80):
        headers = [*asker.pass_()[0], ("X-API-Version", "v2")]
        for _ in range(asker.cell.limit):
            went[asker.ask(headers=headers, keep=True).headers.get("x-origin")] += 1
    total = sum(went.values())
    # 400 draws of one in ten; five standard deviations to either side.
    if set(went) - {"v2", "canary"} or not 0.025 <= went["canary"] / total <= 0.175:
        yield f"X-API-Version v2 goes to {dict(went)}"


def prefix(asker):
    for path in ("/other", "/apiary"):
        yield from refused(asker, f"{path} outside of /api", asker.pass_()[0], 404, path)


def logged(asker):
    """Leaves a request to be found in the log, by its id; `access_log` looks for it once the gateway has ended."""
    headers, who = asker.pass_()
    asker.marked = (str(uuid.uuid4()), who)
    asker.ask("/api/marked", [*headers, ("X-Request-ID", asker.marked[0])])
    return []


def tls(asker):
    with ssl_socket(asker) as socket:
        if socket.version() != "TLSv1.3":
            yield f"{socket.version()} and not TLS 1.3"
        if asker.cell.workload == "h2" and socket.selected_alpn_protocol() != "h2":
            yield "HTTP/2 is not offered"


def ssl_socket(asker):
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["h2"] if asker.cell.workload == "h2" else ["http/1.1"])
    connection = http.client.HTTPSConnection("127.0.0.1", asker.cell.port, timeout=5, context=context)
    connection.connect()
    return connection.sock


CHECKS = {
    "passes": (passes, gateway.WORKLOADS),
    "large": (large, ("plain64k",)),
    "request-id": (request_id, gateway.WORKLOADS),
    "forwarded-for": (forwarded_for, gateway.WORKLOADS),
    "hop-by-hop": (hop_by_hop, gateway.WORKLOADS),
    "keeps": (keeps, tuple(set(gateway.WORKLOADS) - {"h2"})),
    "keys": (keys, gateway.KEYED),
    "tokens": (tokens, gateway.JWT),
    "limit": (limit, (*gateway.KEYED, "full")),
    "prefix": (prefix, ("full",)),
    "routing": (routing, ("full",)),
    "log": (logged, ("full",)),
    "tls": (tls, gateway.TLS),
}


def check(cell, kind):
    """Asks everything of a running gateway. Returns faults that count, those that are excused, and the asker."""
    asker, faults, excused = Asker(cell), [], []
    for name, (ask, workloads) in CHECKS.items():
        if cell.workload not in workloads:
            continue
        try:
            found = list(ask(asker))
        except (Fault, OSError, ValueError, http.client.HTTPException) as error:
            found = [f"{type(error).__name__}: {error}"]
        (excused if name in kind.excused else faults).extend(f"{name}: {fault}" for fault in found)
    if asker.kept:
        asker.kept.close()
    return faults, excused, asker


def access_log(asker):
    """Faults of the access log, once the gateway has ended and written all of it."""
    identity, who = asker.marked
    try:
        lines = asker.cell.access_log.read_text(errors="replace").splitlines()
    except OSError as error:
        return [f"log: {error.strerror}"]
    mine = [line for line in lines if identity in line]
    if len(mine) != 1:
        return [f"log: {len(mine)} lines for one request, {len(lines)} in all"]
    try:
        values = [str(value) for value in flat(json.loads(mine[0]))]
    except ValueError:
        return [f"log: not JSON: {mine[0][:200]}"]
    wanted = {"method": "GET", "path": "/api/marked", "status": "200", "user": who, "request id": identity}
    missing = [name for name, value in wanted.items() if not any(value == v or value in v.split("?") for v in values)]
    if not any(re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?(ms|us|s)?", value) and value != "200" for value in values):
        missing.append("duration")
    return [f"log: no {', '.join(missing)} in {mine[0][:200]}"] if missing else []


def flat(value):
    """All values of nested JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for one in value for leaf in flat(one)]
    return [value]
