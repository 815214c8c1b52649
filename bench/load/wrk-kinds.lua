-- wrk.lua for any gateway: the path and the credentials come from the environment, and 429 is counted
-- apart from other failures. Adds a second line to what wrk.lua says; bench/load/wrk-kinds reads both.

-- Setup and the RESULT line are those of wrk.lua, which lies beside this file.
dofile(debug.getinfo(1, "S").source:match("^@(.*)wrk%-kinds%.lua$") .. "wrk.lua")
local set_up, tell = setup, done
local threads = {}

local function env(name)
    local value = os.getenv(name)
    return value ~= "" and value or nil
end

local requests = {}
local at = 0

function setup(thread)
    set_up(thread)
    table.insert(threads, thread)
end

function init(_)
    local path = env("PATH_") or "/users/42"
    local function add(token)
        local headers = { ["Accept"] = "application/json" }
        if token then headers["Authorization"] = "Bearer " .. token end
        if env("API_KEY") then headers[env("API_KEY_HEADER") or "X-API-Key"] = env("API_KEY") end
        requests[#requests + 1] = wrk.format("GET", path, headers)
    end
    if env("TOKENS") then
        for line in io.lines(env("TOKENS")) do add(line:match("^%S+ (%S+)$")) end
    else
        add(nil)
    end
    -- The threads start at different users.
    at = id * 7
    limited, failed = 0, 0
end

function request()
    at = at % #requests + 1
    return requests[at]
end

-- wrk counts from 400 on; a redirect to a login is not an answer either.
function response(status)
    if status == 429 then
        limited = limited + 1
    elseif status < 200 or status > 299 then
        failed = failed + 1
    end
end

function done(summary, latency, more)
    tell(summary, latency, more)
    local sum = { limited = 0, failed = 0 }
    for _, thread in ipairs(threads) do
        for name in pairs(sum) do sum[name] = sum[name] + (thread:get(name) or 0) end
    end
    io.write(string.format("ANSWERS limited=%d failed=%d\n", sum.limited, sum.failed))
end
