"""HAProxy of Debian, with its own JWT functions, maps and stick tables; no Lua."""

import http.client

from gateway import JWT, KEYED, WORKLOADS, Gateway, Missing, apt, connect, run

# A workload other than `full` writes no log, which is in favour of HAProxy.
BASE = """\
global
    nbthread {workers}
    # It reckons with two files for every connection; one that is idle has but one.
    maxconn 16384
    no strict-limits
{options}
defaults
    mode http
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout http-request 10m
    timeout http-keep-alive 10m
    http-reuse always
    option forwardfor
{log}{splice}
frontend public
    bind 127.0.0.1:{port} backlog 4096{bind}
{rules}
    # The fields of one hop that HAProxy does not strip by itself.
    http-request del-header Keep-Alive
    http-request del-header Proxy-Connection
    http-request del-header TE
    http-request set-header X-Request-ID %[uuid()] unless {{ req.hdr(X-Request-ID) -m found }}
{after}
    default_backend v1
{backends}
"""

TLS_OPTIONS = """\
    ssl-default-bind-options ssl-min-ver TLSv1.3
"""

KEYS = """\
    http-request set-var(txn.client) req.hdr(X-API-Key),map_str({dir}/keys.map)
    http-request deny deny_status 401 unless {{ var(txn.client) -m found }}
"""

# The algorithm is given and not taken from the token, and the claims are decoded once.
CLAIMS = """\
    acl expires var(txn.claims),json_query('$.exp','int'),sub(txn.now) gt 0
    acl by_issuer var(txn.claims),json_query('$.iss') -m str {issuer}
    acl for_us var(txn.claims),json_query('$.aud') -m str {audience}
    acl for_us var(txn.claims),json_query('$.aud[0]') -m str {audience}
    acl for_us var(txn.claims),json_query('$.aud[1]') -m str {audience}
    acl for_us var(txn.claims),json_query('$.aud[2]') -m str {audience}
    acl for_us var(txn.claims),json_query('$.aud[3]') -m str {audience}
    http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_verify("{algorithm}","{key}") -m int 1 }}
    http-request set-var(txn.claims) http_auth_bearer,word(2,.),ub64dec
    http-request set-var(txn.now) date()
    http-request set-var(txn.client) var(txn.claims),json_query('$.sub')
    http-request deny deny_status 401 unless expires by_issuer for_us {{ var(txn.client) -m found }}
"""

LIMIT = """\
    http-request track-sc0 var(txn.client) table clients
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {limit} }}
"""

TABLE = """\
backend clients
    stick-table type string len 64 size 100k expire 2m store http_req_rate(60s)
"""

# What is said of the caller is read from variables, since the request's fields are gone when the line is written.
LOG = """\
    log stdout format raw local0
    log-format '{"time":"%T","method":"%HM","path":"%[var(txn.path),json(utf8s)]","status":%ST,"duration":%Ta,\
"user":"%[var(txn.client),json(utf8s)]","request_id":"%[var(txn.id),json(utf8s)]"}'
"""


class Haproxy(Gateway):
    name = "haproxy"
    workloads = frozenset(WORKLOADS)
    departures = [
        "a limit is http_req_rate(60s) of a stick table: a sliding window in which refused requests count too, so a "
        "client that does not slow down stays refused",
        "of a list of audiences the first four are looked at, since json_query knows no lists",
        "90 to 10 is by weights in turn, not by chance",
        "access log: a write for every line, to standard output, which is the file: it has no buffered form; the "
        "duration is in whole milliseconds, and what was refused has no id in it",
        "its statistics have no page",
    ]
    countable = True

    def install(self):
        try:
            version = run("haproxy", "-v")
        except Missing:
            apt("haproxy")
            version = run("haproxy", "-v")
        return version.split()[2]

    def configure(self, cell):
        if cell.workload in KEYED:
            (cell.dir / "keys.map").write_bytes(cell.keys.read_bytes())
        if cell.tls:
            both = cell.dir / "cert-and-key.pem"
            both.touch(0o600)
            both.write_bytes(cell.cert.read_bytes() + cell.key.read_bytes())
        (cell.dir / "haproxy.cfg").write_text(self.config(cell))

    def command(self, cell):
        argv = ["haproxy", "-db", "-f", cell.dir / "haproxy.cfg"]
        if cell.workload == "full":
            # It writes to files only as its standard output.
            return ["sh", "-c", 'out=$1; shift; exec "$@" > "$out"', "sh", cell.access_log, *argv]
        return argv

    def ready(self, cell):
        """As for any, with the patience for its three tries of a second each where no origin is there yet."""
        try:
            connect(cell, timeout=5).getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def config(self, cell):
        return BASE.format(
            workers=cell.workers,
            options=TLS_OPTIONS if cell.tls else "",
            log=LOG if cell.workload == "full" else "",
            # Large answers stay in the kernel; with small ones that would cost more than it saves.
            splice="    option splice-response\n" if cell.workload == "plain64k" else "",
            port=cell.port,
            bind=bind(cell),
            rules=rules(cell),
            after=after(cell),
            backends=backends(cell),
        )


def bind(cell):
    if not cell.tls:
        return ""
    protocols = "h2,http/1.1" if cell.workload == "h2" else "http/1.1"
    return f" ssl crt {cell.dir}/cert-and-key.pem alpn {protocols}"


def rules(cell):
    """Who may pass, in the order of the checks."""
    made = ""
    if cell.workload == "full":
        made += "    http-request set-var(txn.path) path\n"
        made += "    http-request return status 404 unless { path /api } || { path_beg /api/ }\n"
    if cell.workload in KEYED:
        made += KEYS.format(dir=cell.dir)
    if cell.workload in JWT:
        secrets = {"HS256": cell.hs256_secret.read_text(), "RS256": cell.rs256_public, "ES256": cell.es256_public}
        key = secrets[cell.algorithm]
        made += CLAIMS.format(issuer=cell.issuer, audience=cell.audience, algorithm=cell.algorithm, key=key)
    if cell.workload in KEYED or cell.workload == "full":
        made += LIMIT.format(limit=cell.limit)
    return made


def after(cell):
    """What the origin is told, and where it stands."""
    made = ""
    if cell.workload in KEYED:
        made += "    http-request set-header X-Client-ID %[var(txn.client)]\n    http-request del-header X-API-Key\n"
    if cell.workload in JWT:
        made += "    http-request set-header X-User-ID %[var(txn.client)]\n    http-request del-header Authorization\n"
    if cell.workload == "full":
        made += "    http-request set-var(txn.id) req.hdr(X-Request-ID)\n"
        made += "    use_backend v2 if { req.hdr(X-API-Version) -m str v2 }\n"
    return made


def backends(cell):
    made = f"backend v1\n    server v1 127.0.0.1:{cell.origins['v1']}\n"
    if cell.workload == "full":
        made += "backend v2\n    balance roundrobin\n"
        made += f"    server v2 127.0.0.1:{cell.origins['v2']} weight 90\n"
        made += f"    server canary 127.0.0.1:{cell.origins['canary']} weight 10\n"
    if cell.workload in KEYED or cell.workload == "full":
        made += TABLE
    return made
