-- Keep-alive connections that ask every 40 ms; every answer has to be the one right one.
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init()
    wrong = 0
    wrk.headers["Host"] = "api.example.com"
end

function delay()
    return 40
end

function request()
    return wrk.format("GET", "/origin/greet/wrk")
end

function response(status, _, body)
    if status ~= 200 or body ~= "hello /origin/greet/wrk\n" then
        wrong = wrong + 1
    end
end

function done(summary)
    local errors, bad = summary.errors, 0
    for _, thread in ipairs(threads) do
        bad = bad + thread:get("wrong")
    end
    local socket = errors.connect + errors.read + errors.write + errors.timeout
    print(string.format("RESULT requests=%d socket=%d wrong=%d", summary.requests, socket, bad))
end
