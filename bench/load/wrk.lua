-- Every request is another user's, every second one for version 2. Says what was not 200 or broke.

local requests = {}
local threads = {}
local at = 0

function setup(thread)
    thread:set("id", #threads)
    table.insert(threads, thread)
end

function init(args)
    local n = 0
    for line in io.lines(args[1]) do
        local token = line:match("^%S+ (%S+)$")
        n = n + 1
        local headers = {
            ["Host"] = "api.example.com",
            ["Authorization"] = "Bearer " .. token,
            ["Accept"] = "application/json",
        }
        if n % 2 == 0 then headers["X-API-Version"] = "v2" end
        requests[n] = wrk.format("GET", "/users/" .. n .. "?fields=name", headers)
    end
    at = id * 7
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency, _)
    local e = summary.errors
    io.write(string.format(
        "RESULT requests=%d seconds=%.2f rps=%.0f p50_us=%d p90_us=%d p99_us=%d max_us=%d status_errors=%d socket_errors=%d\n",
        summary.requests, summary.duration / 1e6, summary.requests / (summary.duration / 1e6),
        latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
        e.status, e.connect + e.read + e.write + e.timeout))
end
