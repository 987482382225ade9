-- wrk's part of the bench: posts the bodies of a file in turn; one body a line, events of a batch apart by a tab.
local bodies = {}

function init(args)
  mean_delay_ms = tonumber(args[4])
  math.randomseed(7)
  for line in io.lines(args[1]) do
    local body = line:gsub("\t", "\n")
    bodies[#bodies + 1] = wrk.format("POST", "/v1/events", {
      ["Content-Type"] = args[2], ["X-API-Key"] = args[3], ["Host"] = "bench",
    }, body)
  end
end

local at = 0
function request()
  at = at % #bodies + 1
  return bodies[at]
end

function delay()
  return mean_delay_ms > 0 and math.random(0, 2 * mean_delay_ms) or 0
end

function done(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    + summary.errors.status
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, bad,
    latency:percentile(50), latency:percentile(99)))
end
