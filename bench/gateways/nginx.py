"""nginx of Debian, with its Lua module where tokens are to be verified; the Lua is in peers/nginx_jwt.lua."""

import os
import pathlib
import resource

from gateway import HERE, JWT, KEYED, WORKLOADS, Gateway, apt, run

PACKAGES = ("nginx-light", "libnginx-mod-http-lua", "lua-cjson")
CACHED = 4096
LUA_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")

# Everything but `full` writes no access log, which is in favour of nginx.
BASE = """\
{modules}
{user}
daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pcre_jit on;
pid {dir}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 16384; multi_accept on; }}
http {{
    client_body_temp_path {dir}/client;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server_tokens off;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    proxy_http_version 1.1;
    # Whatever its size, an answer stays in memory.
    proxy_buffers {buffers};
    proxy_buffer_size {buffer};
    proxy_busy_buffers_size {busy};
    proxy_max_temp_file_size 0;
    # The fields of one hop that nginx does not strip by itself are set to nothing.
    proxy_set_header Connection "";
    proxy_set_header Proxy-Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Request-ID $id_of_request;
    # Large enough for 10,000 API keys.
    map_hash_max_size 65536;
    map_hash_bucket_size 128;
    map $http_x_request_id $id_of_request {{ "" $request_id; default $http_x_request_id; }}
{upstreams}
{http}
    {log}
    server {{
        listen 127.0.0.1:{port} backlog=4096{listen};
{server}
    }}
}}
"""

# `burst` counts those beyond the first. Refusals are not written to the error log.
KEYS = """\
    map $http_x_api_key $client_id {{ default ""; include {dir}/keys.map; }}
    limit_req_zone $client_id zone=clients:16m rate={limit}r/m;
    limit_req_status 429;
    limit_req_log_level info;
    proxy_set_header X-Client-ID $client_id;
    proxy_set_header X-API-Key "";
"""

LUA = """\
    lua_package_path "{peers}/?.lua;;";
    lua_shared_dict passed 32m;
    init_by_lua_block {{
        gate = require "nginx_jwt"
        gate.setup {{ algorithm = "{algorithm}", key = [==[{key}]==], issuer = "{issuer}", audience = "{audience}",
                     limit = {limit}, cache = {cache} }}
    }}
    proxy_set_header X-User-ID $user_id;
    proxy_set_header Authorization "";
"""

FULL = """\
    map $http_x_api_version $backend { default v1; v2 v2; }
    log_format line escape=json
        '{"time":"$time_iso8601","method":"$request_method","path":"$uri","status":$status,'
        '"duration":$request_time,"user":"$user_id","request_id":"$id_of_request"}';
"""

TLS = """\
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
"""


class Nginx(Gateway):
    name = "nginx"
    workloads = frozenset(WORKLOADS)
    departures = [
        "API keys and X-API-Version are compared without regard to case: its map knows no other way",
        "the limit of apikey and refused is limit_req: a bucket that leaks, so a client at its limit gets a request "
        "every 60 s / limit and not a new window after a minute",
        "the limit of full is a fixed window, in a shared dictionary of its Lua module",
        "tokens are verified in Lua, by calls into libcrypto: nginx itself has no such module outside of its "
        "commercial edition",
        "90 to 10 is by weights in turn, not by chance",
        "a refusal is a page of HTML",
        "no metrics",
    ]
    cache = 0
    countable = True

    def install(self):
        if not LUA_MODULE.exists() or not list(pathlib.Path("/usr/lib").glob("*/lua/5.1/cjson.so")):
            apt(*PACKAGES)
        return run("nginx", "-v").strip().rpartition("/")[2]

    def configure(self, cell):
        if cell.workload in KEYED:
            pairs = [line.split() for line in cell.keys.read_text().splitlines()]
            (cell.dir / "keys.map").write_text("".join(f'"{key}" "{client}";\n' for key, client in pairs))
        (cell.dir / "nginx.conf").write_text(self.config(cell))

    def command(self, cell):
        return ["nginx", "-p", cell.dir, "-e", "stderr", "-c", cell.dir / "nginx.conf"]

    def config(self, cell):
        full = cell.workload == "full"
        modules = "load_module modules/ndk_http_module.so;\nload_module modules/ngx_http_lua_module.so;"
        return BASE.format(
            modules=modules.replace("modules/", "/usr/lib/nginx/modules/") if cell.workload in JWT else "",
            user="user root;" if os.geteuid() == 0 else "",
            workers=cell.workers,
            files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            dir=cell.dir,
            log=f"access_log {cell.access_log} line buffer=64k flush=1s;" if full else "access_log off;",
            **buffers(cell),
            upstreams=upstreams(cell),
            http=self.http(cell),
            port=cell.port,
            listen=listen(cell),
            server=server(cell),
        )

    def http(self, cell):
        """What a workload needs outside of the server."""
        if cell.workload in KEYED:
            return KEYS.format(dir=cell.dir, limit=cell.limit)
        if cell.workload not in JWT:
            return ""
        paths = {"HS256": cell.hs256_secret, "RS256": cell.rs256_public, "ES256": cell.es256_public}
        lua = LUA.format(
            peers=HERE / "peers",
            algorithm=cell.algorithm,
            key=paths[cell.algorithm].read_text(),
            issuer=cell.issuer,
            audience=cell.audience,
            limit=cell.limit if cell.workload == "full" else "nil",
            cache=self.cache,
        )
        return lua + (FULL if cell.workload == "full" else "")


class NginxCache(Nginx):
    """The same with verified tokens kept, as one who writes the Lua for speed would do."""

    name = "nginx-cache"
    workloads = frozenset(JWT)
    departures = [*Nginx.departures, f"the last {CACHED} verified tokens are kept, and up to as many before them"]
    cache = CACHED


def buffers(cell):
    """Where answers are large, one buffer holds all of it; else little memory is held for each."""
    if cell.workload == "plain64k":
        return {"buffers": "4 72k", "buffer": "72k", "busy": "144k"}
    return {"buffers": "16 16k", "buffer": "16k", "busy": "64k"}


def upstreams(cell):
    groups = {"v1": {"v1": 1}, "v2": {"v2": 9, "canary": 1}} if cell.workload == "full" else {"v1": {"v1": 1}}
    return "\n".join(upstream(cell, name, weights) for name, weights in groups.items())


def upstream(cell, name, weights):
    servers = " ".join(f"server 127.0.0.1:{cell.origins[o]} weight={w} max_fails=0;" for o, w in weights.items())
    keep = "keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 600s;"
    return f"    upstream {name} {{ {servers} {keep} }}"


def listen(cell):
    several = " reuseport" if cell.workers > 1 else ""
    return several + (" ssl" if cell.tls else "") + (" http2" if cell.workload == "h2" else "")


def server(cell):
    """The inside of the server block."""
    if cell.workload in KEYED:
        burst = f" burst={cell.limit - 1} nodelay" if cell.limit > 1 else ""
        refuse = 'if ($client_id = "") { return 401; }\n'
        return f"        {refuse}        location / {{ limit_req zone=clients{burst}; proxy_pass http://v1; }}"
    if cell.workload == "full":
        gate = "access_by_lua_block { gate.full() } proxy_pass http://$backend;"
        places = [f"location {where} {{ {gate} }}" for where in ("/api/", "= /api")]
        places.append("location / { return 404; }")
        return "\n".join(f"        {line}" for line in ['set $user_id "";', *places])
    if cell.workload in JWT:
        inside = "access_by_lua_block { gate.user() } proxy_pass http://v1;"
        return f'        set $user_id "";\n        location / {{ {inside} }}'
    tls = TLS.format(cert=cell.cert, key=cell.key) if cell.tls else ""
    return tls + "        location / { proxy_pass http://v1; }"
